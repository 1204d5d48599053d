"""TensorRT: graphs compiled for one NVIDIA GPU, kept on disk, checked, and run.

``api`` finds the library; ``plan`` holds what describes a built graph; ``compile`` builds one
(in a child process that ``build`` starts and watches); ``store`` keeps plans on disk;
``check`` compares a plan with ONNX Runtime; ``executable`` launches one; ``engine`` runs them all.
"""
