"""What every benchmark measures with: samples, processes, memory."""
