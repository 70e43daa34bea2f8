"""Cores, GPUs, memory, named resources, time: what tasks ask for, what there is, and whether it fits. Pure.

``amounts`` counts both in whole numbers, ``fit`` says yes or why not, ``slots`` packs tasks on a node.
"""
