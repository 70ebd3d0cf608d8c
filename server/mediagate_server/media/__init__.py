"""Media storage: outputs and uploads, downloaded, probed, stored and linked."""
