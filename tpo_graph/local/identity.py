"""A short name for what a local reward model computes, the same in every process."""

import hashlib
import json
from typing import Any

_SAMPLED = 4096  # elements per tensor: training moves them all, so these tell models apart
_PASSING = ("_name_or_path", "_commit_hash", "transformers_version", "pad_token_id")


def fingerprint(model: Any, template: str) -> str:
    """Digest (12 hex digits) of architecture, weights as loaded, and chat template.

    Of each tensor at most some thousand evenly spaced elements are read, so that it takes no time
    on models of many gigabytes; a difference in any tensor that training touched is seen. Another
    dtype gives another digest, as it gives other scores.
    """
    import torch

    config = {k: v for k, v in model.config.to_dict().items() if k not in _PASSING}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(template.encode())
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // _SAMPLED)].cpu().contiguous()
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]
