"""`MiCLLayerNorm2d`: a layer norm over the channels at each place, for `norm_cfg` of any head or neck.

`norm_cfg=dict(type="MiCLLayerNorm2d", eps=1e-6)`; mmcv alone has only the one over the last axis, `LN`.
"""

from mmengine.registry import MODELS
from timm.layers import LayerNorm2d

# In mmengine's root registry, where mmcv looks, and under a name that neither library will take.
MODELS.register_module("MiCLLayerNorm2d", module=LayerNorm2d)
