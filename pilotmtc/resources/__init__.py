"""Resources: cores, GPUs, memory, named ones. What tasks need, what nodes have, and whether it fits. Pure.

``amounts`` counts both in whole numbers, ``fit`` says yes or why not, ``slots`` packs tasks on a node.
"""
