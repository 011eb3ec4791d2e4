"""OpenDance-HF: music-driven 3D dance on the Hugging Face stack.

``opendance_hf.pipeline`` turns 2D dance videos into annotated 3D sequences, ``opendance_hf.loading_scripts`` turns
annotated sequences into datasets, ``opendance_hf.modeling`` turns datasets into models and new dances.
"""

__version__ = "0.1.0"
