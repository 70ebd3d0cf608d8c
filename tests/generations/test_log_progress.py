"""Progress that a model's log tells: the usual bars, several of them, and what is none."""

import random

import pytest

from mediagate_server.generations.execution import log_progress
from mediagate_server.generations.execution.log_progress import MAX_LOG_CHARACTERS, LogProgress


def progress_of(*logs: str) -> list[float | None]:
    """Progress after each of these, each being the whole log so far."""
    run = LogProgress()
    values = []
    for log in logs:
        run.update(log)
        values.append(run.value)
    return values


def growing(*pieces: str) -> list[float | None]:
    """Progress after each piece that is added to the log."""
    return progress_of(*("".join(pieces[: n + 1]) for n in range(len(pieces))))


@pytest.mark.parametrize(
    ("log", "progress"),
    [
        (" 45%|████▌     | 9/20 [00:03<00:04,  2.5it/s]", 0.45),
        ("45%|████ | 9/20 [00:03<00:04, 2.5it/s]\n", 0.45),
        ("  0%|          | 0/20 [00:00<?, ?it/s]", 0.0),
        ("Sampling:  45%|####5     | 9/20", 0.45),
        ("\r 10%|█         | 2/20\r 45%|████▌     | 9/20", 0.45),
        ("\x1b[32m 45%\x1b[0m|████▌     | 9/20", 0.45),
        ("\x1b[2K\r 10%|█ |\x1b[1A\x1b[2K 45%|████ |", 0.45),
        ("\x1b]0;title\x07 45%|█|", 0.45),
        ("━━━━━━━━╸━━━━━━━  45% 0:00:04", 0.45),
        ("[====>      ] 45%", 0.45),
        ("45% [####-----]", 0.45),
        ("Progress: 45%", 0.45),
        ("progress = 45.5 %", 0.455),
        ("PROGRESS 45,5%", 0.455),
        ('{"level": "info", "progress": "45%"}', 0.45),
        ('{"progress": 0.45}', 0.45),
        ("Progress: 45% | step 3 of 4", 0.45),
        ("45% complete", 0.45),
        ("45%", 0.45),
        ("[ 45%] Decoding video", 0.45),
        ("Rendering... 45%", 0.45),
        ("Downloading weights: 45%", 0.45),
        ("step 9/20\n", 0.45),
        ("Step: 9 / 20, loss 0.3\n", 0.45),
        ("[Step 9/20]", 0.45),
        ("frame 12 of 48\n", 0.25),
        ("Processed 12 of 48 frames", 0.25),
        ("Iteration 12 out of 48\n", 0.25),
        ("[12/48] Decoding\n", 0.25),
        ("9/20\n", 0.45),
        ("Progress |████----| 45.0% Complete", 0.45),
        ("Rendering video (45%)", 0.45),
        ("Upscaling: 9/20\n", 0.45),
        ("Step 9 of 20: loss 0.3, 3.2s\n", 0.45),
        ("12/48 [00:03<00:04, 2.5it/s]", 0.25),
        ("Using seed 7\nstep 9/20\nWarning: no flash attention\n", 0.45),
    ],
)
def test_common_progress_bars(log: str, progress: float) -> None:
    """Each is read, wherever its line stands."""
    assert progress_of(log) == [progress]
    assert progress_of(f"Loading...\n{log}") == [progress]


@pytest.mark.parametrize(
    "log",
    [
        "",
        "Prompt: a 100% cotton shirt, 16/9, 3 of 4 people",
        "Generating 100% cotton shirts",
        "Generating a shirt (100% cotton)",
        "16/9\n9 of\n/20",
        "GPU memory 45% used, utilization: 98%",
        "NSFW score 3%",
        "aspect ratio 16:9, 512/768, 11/30/2026",
        "[11/30 14:07:00] started",
        "using seed 1234/5",
        "110%|██████████|",
        "step 30/20",
        "0/0 steps",
        "٤٥%|████|",
        "frame=  120 fps= 30 q=28.0 size= 10kB time=00:00:04",
        "45it [00:03, 2.5it/s]",
    ],
)
def test_other_numbers_are_not_progress(log: str) -> None:
    """What a prompt says, how full the memory is, and what cannot be."""
    assert progress_of(log, log, f"{log}\n") == [None] * 3


def test_a_truncated_number_waits_for_its_rest() -> None:
    """'step 1/2' may become 'step 1/20'; a log that stays so is whole."""
    assert progress_of("step 1/2", "step 1/20\n") == [None, 0.05]
    assert progress_of("step 1/2", "step 1/2") == [None, 0.5]


def test_consecutive_bars_never_go_back() -> None:
    """The next one goes on from what was reached; a bar that is full is no end before it stays."""
    first = "".join(f"\r{n * 10:3}%|{'█' * n}| {n}/10" for n in range(11))
    values = growing(first[: len(first) // 2], first[len(first) // 2 :], "\nDecoding:   0%| |")
    assert values == sorted(values, key=lambda value: value or 0)
    assert values[-1] is not None
    assert values[-1] < 1
    values += growing(first, "\nDecoding:  50%|█ |", "\nDecoding: 100%|██|", "\n", "done\n", "!\n")
    assert values[3] is None
    assert values[4:] == [0.5, 0.5, 0.5, 0.5, 1.0]


def test_a_short_bar_before_the_main_one() -> None:
    """Weights that load within a moment."""
    values = growing(
        "Loading: 100%|██| 7/7\n", "  2%|  | 1/50\r", " 50%|█ | 25/50\r", " 98%|██| 49/50\r"
    )
    assert values == [None, 0.02, 0.5, 0.98]


def test_the_outer_of_nested_bars_counts() -> None:
    """The inner one begins anew each time."""
    pieces = ["Outputs:   0%| | 0/4\n"]
    for n in range(1, 5):
        pieces += [f"step {k}/10\n" for k in range(1, 11)]
        pieces.append(f"Outputs: {n * 25:3}%| | {n}/4\n")
    values = growing(*pieces)
    assert values[::11] == [0, 0.25, 0.5, 0.75, 0.75]


def test_an_abandoned_bar_does_not_block_progress() -> None:
    """It broke off; the next one moves on after a while."""
    values = growing("Searching:  20%|█ |\n", *(f"step {n}/50\n" for n in range(1, 51)))
    assert values == sorted(values, key=lambda value: value or 0)
    assert values[-2] is not None
    assert values[-2] > 0.9


def test_a_small_decrease_is_not_a_new_bar() -> None:
    """An estimate of the model's may go down a little."""
    assert growing("Progress: 45%\n", "Progress: 44%\n", "Progress: 46%\n") == [0.45, 0.45, 0.46]


def test_the_end_of_the_log_is_kept() -> None:
    """So much of it, from the beginning of a line on."""
    run = LogProgress()
    assert run.update("x" * 100)
    assert not run.update("x" * 100)
    assert run.update("line\n" * MAX_LOG_CHARACTERS)
    assert 0 < len(run.log) <= MAX_LOG_CHARACTERS
    assert run.log.startswith("line\n")
    assert run.update(
        "line\n" * (MAX_LOG_CHARACTERS - 1) + "step 9/20\n"
    )  # Both ends of a long one.
    assert run.value == 0.45


def test_any_log_is_read() -> None:
    """In pieces of any size: progress never falls, is never out of bounds, and little is kept."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    words = [
        "45%|",
        "9/20",
        "step ",
        " of ",
        "\r",
        "\n",
        "\x1b[",
        "[A",
        "█",
        "progress:",
        "0.5",
        "%",
        "é",
    ]
    for _ in range(200):
        run, log, before = LogProgress(), "", 0.0
        for _ in range(30):
            log += "".join(chance.choices(words, k=chance.randrange(20)))
            run.update(log[chance.randrange(10) :] if chance.random() < 0.1 else log)
            if run.value is not None:
                assert before <= run.value <= 1
                before = run.value
        assert len(run._bars) <= 32


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "shape", ["#", "█=", "[#", "## ", "##>-. ", "[(", "1", "1 ", "1,", "9/", "1 of ", "1 %", "a-"]
)
@pytest.mark.parametrize("end", ["", " %", "]", " 1"])
def test_parsing_is_linear_in_line_length(shape: str, end: str) -> None:
    """Lines far longer than any that is looked at: a cost by the square takes minutes of them."""
    line = shape * (200_000 // len(shape)) + end
    for pattern in log_progress._PATTERNS:
        for _ in pattern.finditer(line):
            pass


@pytest.mark.parametrize("log", ["PROGRESS: 45%", "Step 9/20", "9 OF 20 Frames", "RENDERING 45%"])
def test_keywords_are_case_insensitive(log: str) -> None:
    """Capitals are no other words."""
    assert progress_of(log + "\n") == [0.45]
