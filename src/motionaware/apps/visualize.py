"""Draw what a model computes on a clip of a video: a sheet (PNG) or a movie (GIF, mp4)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from motionaware.apps.predict import check_path, part_bounds, seconds_at
from motionaware.data.dataset import choose_frames
from motionaware.data.transforms.crop_flip import crop_for_testing
from motionaware.data.video.base import Video
from motionaware.data.video.open import open_video
from motionaware.data.video.writer import write_video
from motionaware.errors import UsageError
from motionaware.explain.activations import check_known, record_activations
from motionaware.explain.drawing import (
    Scene,
    draw_movie,
    draw_sheet,
    import_figure_class,
    save_figure,
    save_gif,
)
from motionaware.explain.text_rendering import fonts_for
from motionaware.files import check_folder
from motionaware.models.checkpoint import load
from motionaware.models.recognizer import VideoRecognizer
from motionaware.models.site_hooks import sites as sites_of

ENDINGS = (".png", ".gif", ".mp4")


@dataclass(frozen=True, kw_only=True)
class Visualization:
    """What `visualize` drew.

    Attributes:
        picture: Path of the picture.
        video: Path of the video.
        start_seconds, end_seconds: The part of the video; None for a folder of frames.
        frames: Numbers of the video's frames in the clip.
        classes: The most probable classes with their probabilities, in descending order.
        shown_class: The class that Grad-CAM explains.
        cam_layer: The layer that Grad-CAM uses; None if there is no Grad-CAM.
        sites: The sites whose motion, gate or attention are drawn.
        absent: One sentence for each kind of map that is not drawn, and for characters that no
            installed font has.
        notes: What was changed in the video to read it, one line each.
    """

    picture: str
    video: str
    start_seconds: float | None
    end_seconds: float | None
    frames: tuple[int, ...]
    classes: list[tuple[str, float]]
    shown_class: str
    cam_layer: str | None
    sites: tuple[str, ...]
    absent: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def table(self) -> str:
        """Return the facts as text, one a line."""
        when = ""
        if self.start_seconds is not None:
            when = f", {self.start_seconds:.1f} to {self.end_seconds:.1f} s"
        lines = [f"{self.video}{when}"]
        lines += [f"  {probability:6.1%}  {name}" for name, probability in self.classes]
        if self.cam_layer is not None:
            lines.append(f"Grad-CAM of {self.shown_class} at {self.cam_layer}")
        if self.sites:
            lines.append(f"sites: {', '.join(self.sites)}")
        lines += self.absent
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join([*lines, f"picture: {self.picture}"])


def visualize(
    model: VideoRecognizer | str | Path,
    video: str | Path,
    out: str | Path = "visualize.png",
    *,
    sites: str | Sequence[str] | None = None,
    shown_class: str | int | None = None,
    clip: int = 1,
    layer: str | None = None,
    title: str | None = None,
    top_k: int = 5,
    fps: float | int = 2.0,
) -> Visualization:
    """Draw a clip of a video with the model's motion, gates, attention, Grad-CAM and classes.

    The model's mode and hooks are restored afterwards.

    Args:
        model: A recognizer, or the path of its checkpoint.
        video: A video file or a folder of frames.
        out: The picture to write: a sheet of all frames (`.png`), or a movie (`.gif`, `.mp4`).
        sites: Names of sites, or `first`, `last` or `all`; by default the first, middle and last.
        shown_class: Name or number (from 0) of the class that Grad-CAM explains; the most probable
            one by default.
        clip: Number of the part of the video, from 1; `predict` divides videos into the same parts.
        layer: The layer that Grad-CAM uses; see `record_activations` for the default.
        title: Text above the frames; the name of the video by default.
        top_k: Number of classes to draw.
        fps: Frames per second of a movie.

    Raises:
        VideoError: The video cannot be read.
        NonFiniteScores: The model's scores are infinite or NaN.
        UsageError: A site, class, layer, part or file ending is unknown, the checkpoint is damaged,
            or `video` is not a path.
        FileNotFoundError: The checkpoint does not exist.
        MissingPackage: matplotlib is not installed.
    """
    check_path(video)
    out = Path(out)
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"{out} ends with {out.suffix!r}; choose {', '.join(ENDINGS)}")
    if top_k < 1 or fps <= 0:
        raise UsageError(f"{top_k = }, {fps = }; top_k is at least 1, and fps is above 0")
    check_folder(out.parent)
    import_figure_class()  # raises before the work if matplotlib is missing
    if not isinstance(model, VideoRecognizer):
        model = load(model)
    target = None if shown_class is None else class_number(shown_class, model.class_names)
    chosen = choose_sites(sites_of(model.backbone), sites)
    opened = open_video(video, square_pixels=model.clip.square_pixels)
    bounds = part_bounds(opened)
    if not 1 <= clip <= len(bounds):
        last = len(bounds)
        parts = f"parts 1 to {last}" if last > 1 else "only part 1"
        raise UsageError(f"clip is {clip}, but {video} has {parts}; choose one of them")
    start, end = bounds[clip - 1]
    indices = [start + index for index in choose_frames(end - start, model.clip)]
    frames = crop_for_testing(opened.frames(indices), spec=model.clip)
    activations = record_activations(
        model, frames, sites=chosen, target=target, layer=layer, video_name=str(video)
    )
    scene = Scene(
        frames=frames,
        captions=[_caption(opened, index) for index in indices],
        activations=activations,
        class_names=model.class_names,
        title=Path(video).name if title is None else title,
        top_k=top_k,
    )
    target_name = model.class_names[activations.target]
    values, labels = activations.probabilities.topk(min(top_k, len(model.class_names)))
    names = [model.class_names[label] for label in labels.tolist()]
    with fonts_for([scene.title, *names, target_name]) as note:
        if out.suffix.lower() == ".png":
            save_figure(draw_sheet(scene), out)
        else:
            pictures = torch.stack(list(draw_movie(scene)))
            save = save_gif if out.suffix.lower() == ".gif" else write_video
            save(out, pictures, fps=fps)
    return Visualization(
        picture=str(out),
        video=str(video),
        start_seconds=seconds_at(opened, start),
        end_seconds=seconds_at(opened, end),
        frames=tuple(indices),
        classes=list(zip(names, values.tolist(), strict=True)),
        shown_class=target_name,
        cam_layer=activations.layer,
        sites=tuple(site.name for site in activations.sites),
        absent=(*activations.absent, *([note] if note else [])),
        notes=tuple(opened.notes),
    )


def choose_sites(hosts: list[str], sites: str | Sequence[str] | None) -> list[str]:
    """Return the chosen hosts in the order of the network.

    Args:
        hosts: Names of all hosts.
        sites: Names of hosts, or `first`, `last` or `all`; None for the first, middle and last.

    Raises:
        UsageError: A name is not a host.
    """
    if sites is None and not hosts:
        return []
    match [sites] if isinstance(sites, str) else sites:
        case None:
            return [hosts[index] for index in sorted({0, len(hosts) // 2, len(hosts) - 1})]
        case ["all"]:
            return hosts
        case ["first"]:
            return hosts[:1]
        case ["last"]:
            return hosts[-1:]
        case _ as names:
            for name in names:
                check_known(name, hosts, what="site")
            return [name for name in hosts if name in names]


def class_number(shown_class: str | int, class_names: tuple[str, ...]) -> int:
    """Return the label of a class, given its name or its number from 0; names are tried first.

    Raises:
        UsageError: There is no such class.
    """
    if shown_class in class_names:
        return class_names.index(str(shown_class))
    try:
        number = int(shown_class)
    except ValueError:
        check_known(str(shown_class), class_names, what="class")
        raise
    if not 0 <= number < len(class_names):
        raise UsageError(
            f"class {number} does not exist; the {len(class_names)} classes are 0 to "
            f"{len(class_names) - 1}"
        )
    return number


def _caption(video: Video, index: int) -> str:
    seconds = seconds_at(video, index)
    return f"frame {index}" if seconds is None else f"{seconds:.2f} s"
