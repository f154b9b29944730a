"""Fine-tuning: the encoder and a linear head, everything trained."""

from __future__ import annotations

from eval import finetune
from eval.protocols.finetune import FinetuneProtocol
from repro.stages.context import JobContext, Outcome, with_side
from repro.stages.pictures import classification


def run(context: JobContext) -> Outcome:
    """Fine-tune the encoder of the parent job on the labelled pictures."""
    trained = context.encoder()
    data, source = classification(context)
    protocol = with_side(context.protocol(FinetuneProtocol), context)
    result = finetune.evaluate(trained.encoder, data, trained.normalisation, protocol, context.evaluation())
    return Outcome.of(result, source)
