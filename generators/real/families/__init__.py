"""The families of real networks: where each network is, and which document names its parent."""
