"""PinSAGE in JAX: item embeddings from features and random-walk neighbourhoods."""

import lazy_loader

# What the package offers is listed in __init__.pyi, and imported when it is first asked for: JAX
# takes seconds to import, a command's --help should not.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
