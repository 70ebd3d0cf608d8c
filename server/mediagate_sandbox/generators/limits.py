"""Limits of generated media, so that no request can exhaust the machine."""

MIN_SIDE = 16
"""Pixels; below this there is nothing to see."""

MAX_SIDE = 4096
"""Pixels; a picture of this size takes 48 MiB while it is drawn."""

MAX_AUDIO_SECONDS = 600
"""Seconds; at 44.1 kHz in stereo that is 100 MiB of samples."""

MAX_VIDEO_SECONDS = 60
"""Seconds; at 1080p that is some 15 s of CPU."""
