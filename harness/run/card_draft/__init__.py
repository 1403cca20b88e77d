"""A draft of the model card of a CenterNet's ONNX that comes without one."""

from harness.run.card_draft.draft import Draft, draft_card

__all__ = ["Draft", "draft_card"]
