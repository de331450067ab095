"""Writes, before a run's first step, what pairs it with others and what it runs in."""

from __future__ import annotations

import dataclasses
import json

from architectures.contract import FusionDesign
from architectures.weights import slots
from harness.outputs.code import code_digest
from harness.outputs.environment import environment
from harness.outputs.files import write_json
from harness.outputs.folder import RunFolder
from harness.outputs.records import Certificate, FactsRecord, Role, read_if_there
from harness.runs.assemble import graph_of
from harness.training.data.corpus import Corpus
from harness.training.settings.spec import RunSpec


def certify(folder: RunFolder, spec: RunSpec, design: FusionDesign, corpus: Corpus) -> None:
    """Writes `certificate.json`, `environment.json` and `graph.json` of a design about to train."""
    digests, starts = slots.role_digests(design), slots.starts(design)
    facts = dataclasses.asdict(type(design).facts(design.config, design.backbone))
    Certificate(
        roles={
            role: Role(digest=digests[role], size=value.numel(), drawn_as=starts[role])
            for role, value in design.named_parameters()
        },
        code=_codes(folder, spec),
        data=corpus.content,
        facts=FactsRecord(**{name: facts[name] for name in FactsRecord.model_fields}),
    ).write(folder.certificate, durable=True)
    environment(spec.train.numerics).write(folder.environment)
    vocabulary = corpus.tokenizer.vocabulary
    config = json.dumps(spec.config)
    graph = graph_of(spec.train.design, config, spec.backbone, vocabulary)
    write_json(folder.graph, graph)


def _codes(folder: RunFolder, spec: RunSpec) -> tuple[str, ...]:
    """Digests the sources that train this run: those that began it too, where it goes on."""
    now = code_digest(spec.asked.design_file)
    before = read_if_there(Certificate, folder.certificate)
    if before is None or not folder.checkpoint.exists():
        return (now,)
    return tuple(dict.fromkeys([*before.code, now]))
