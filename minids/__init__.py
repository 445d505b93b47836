"""minids: build DeepSeek from scratch, on the machine in front of you.

Every name has one import path (`from minids.nn.mla import MLA`); this file re-exports nothing.
"""

__version__ = "0.1.0"
