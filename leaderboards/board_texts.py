"""What boards say of their columns and rows: before the tables, below them, and of the tables with all columns."""

from __future__ import annotations

from collections.abc import Sequence

from leaderboards.arms import UNTRAINED, Arm
from leaderboards.controls import is_pixels
from leaderboards.curves import ABOUT
from leaderboards.recipe_differences import in_turn

LEAD = {
    "gain": "points above the same network untrained, on the same seeds.",
    "vs baseline": "points above a baseline that trained for as many epochs and was tuned alike. It is named below the"
    " table.",
}
"""What a reader needs of a short table before its numbers, by column; the metric itself stands before these."""
SHORT = {
    "n": "number of seeds. Each seed is one pre-training. The link leads to the record of the first seed.",
    "TFLOP": "operations of the whole pre-training, in units of 10^12 operations.",
}
"""What the other columns of a short table are."""
FEWER = "`{}` in the column vs baseline: the number in brackets is how many seeds method and baseline have in common."
FULL = {
    "variant": "a named change of the method. The row `glnet:no_flip` is `glnet` with the variant `no_flip`.",
    "which": "what tells rows of the same name apart: the images, the recipe or the version of the program.",
    "trust": "whose records they are, if they are not only our own.",
    "network": "`ResNet-10 w16` has 16 channels in the first stage (standard: 64). `ViT 128x3/4` has width 128, 3"
    " blocks and patches of 4 pixels.",
    "optimism": "points that one would gain by selecting the checkpoint or the setting on test data. No other number"
    " includes them.",
    "trials": "number of tuning runs by hand, or the name of the procedure that tuned the method.",
    "note": "what else is to know: for example code that was not committed.",
    "from": "a link to the record of each seed. `s0` is seed 0.",
}
"""What the further columns are of the tables with all columns."""
OWN_COST = {
    "wall time": "of the evaluation alone, without the pre-training.",
    "peak memory": "of the evaluation alone, without the pre-training.",
}
"""The same where the costs are those of an evaluation."""
COSTS = {
    "image passes": "images seen in training. Each image counts once in each epoch.",
    "wall time": "without resumed trainings, as only their last attempt is recorded. The same holds for CPU time and"
    " CPU share.",
    "CPU share": "below 100 %, other work ran on the same cores. Then wall time and device time are too long: compare"
    " CPU time instead.",
    "trials": f"{FULL['trials']} The costs do not include tuning.",
}
"""The same where they are those of pre-trainings."""
RACES = (
    "share of TFLOP: operations that the method needs to reach the same accuracy, divided by those that its baseline"
    " needs. Below 1 the method needs fewer.",
    "same accuracy: the lower one of the two final accuracies of k-NN on training images.",
    "k-NN, baseline's: final accuracy of the method and of its baseline. A method can be faster and still end lower.",
)
MORE_ON_RACES = (
    "Example: a share of 0.52 (0.38 to 0.71) means that the method needs about half of the operations.",
    "The share is the geometric mean over seeds. Its 95 % interval stands in brackets. The interval is valid only if"
    " the number of seeds was fixed in advance.",
    "Where no share stands, the baseline did not learn, or the curves are too short.",
    "In the tables of shares, n counts the seeds from which both the method and its baseline were trained.",
    "A method and its baseline train for the same number of epochs and are tuned alike.",
    "The claims on the speed of learning are tested on these shares.",
    ABOUT,
)
OF_COSTS = "Costs are means over seeds. Peak memory is the largest. All rows of a cost table ran on the same device."
PRETEXT = (
    "accuracy: percent of the last logged batch of training images; mean ± sample standard deviation over n seeds.",
    "location: from which of four places a piece of the image comes (chance: 25). Up or down, left or right: one part"
    " of that answer (chance: 50).",
    "rotation: by which of four angles the image was turned (chance: 25).",
)
MORE_ON_PRETEXT = (
    "GLNet cuts an image into four pieces and then flips pieces at random. In a symmetric image, a flipped left piece"
    " looks like a right one. So left and right cannot be told apart there. `glnet:no_flip` does not flip.",
    "No verdict on a paper's claim uses this board. Some verdicts on why a method works do, for example"
    " `glnet-why-left_right`.",
)
INDEX_INTRO = (
    "Every number comes from records. A record is the file that one finished job leaves."
    " Numbers of different tracks, data or protocols never share a table."
)


def row_names(shown: Sequence[Arm]) -> list[str]:
    """What the names of rows mean, as far as there are such rows."""
    pixels = {arm.name for arm in shown if is_pixels(arm)}
    untrained = {arm.name for arm in shown if arm.method == UNTRAINED} - pixels
    labelled = {arm.name for arm in shown if arm.control and arm.method != UNTRAINED}
    lines = [
        "`byol` is a method. `glnet:no_flip` is the variant `no_flip` of the method `glnet`.",
        "`byol@8` was trained for 8 epochs. A name has its epochs if the recipe has another number, or if two rows have"
        " the same name.",
    ]
    if untrained:
        what = "are untrained networks" if len(untrained) > 1 else "is an untrained network"
        lines.append(f"{in_turn(untrained)} {what}.")
    if pixels:
        lines.append(f"{in_turn(pixels)} is no network: it compares the pixels of the images.")
    if labelled:
        lines.append(f"{in_turn(labelled)} {'were' if len(labelled) > 1 else 'was'} trained with labels.")
    if any("code " in arm.label for arm in shown):
        lines.append("`(code ...)` was trained with another version of the program.")
    return lines
