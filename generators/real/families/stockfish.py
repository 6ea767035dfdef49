"""The networks of the chess program Stockfish, in packages of npm and Debian."""

from collections.abc import Mapping

from mothr.generators.real.archives import Archive, Opened, tarball
from mothr.generators.real.family import Content, LeftOut, Network, RealFamily
from mothr.generators.real.readers.nnue import NnueNetwork

S12 = tarball("stockfish", "12.0.0", "cdf3f161c2233677e18389741ec19730725e125d818b83ad82fdd67a41bbabc6", 12065993)
S14 = tarball("stockfish", "14.0.0", "c80b59317b96aeb3dad9269c502472c61cac76a4f84f615055593fae59574947", 28019644)
S14_1 = tarball("stockfish", "14.1.0", "39fafa3588ff86499025569a015d1b4113eecc96328872339ed7ce0cb1744d5b", 28092717)
S15 = tarball("stockfish", "15.0.0", "127edc70252332433306edbf13f68eee6e73a99a78779429041bdef9a372225b", 26158880)
S16 = tarball("stockfish", "16.0.0", "033fd3c8b07b7d8906a081416b8683d1403dffa0e57958cfc744e0f3726aaa60", 62846059)
S17 = tarball("stockfish", "17.1.0", "f6473919fcd9dc1a3e6a8f30fb5e3b7e6a57d966b36c8ad0959fce7aca7ec5fc", 146853307)
S18 = tarball("stockfish", "18.0.0", "9db3d26f3212c0f1e81ce4acfb04d9f7fce7997b7e396f645e9cb2fa675fa07d", 167917613)
WASM_1 = tarball(
    "stockfish-nnue.wasm", "0.0.1", "c6b2993227a3a57cfdaa5f43c861d7a1eef4adc145dd7d31568baa3f94601593", 11983167
)
WASM_2 = tarball(
    "stockfish-nnue.wasm", "0.0.2", "37e2464b0622c2128dbdda66831bb1e4e38bc930ec4b01de64d1712f66547379", 11981159
)
ALPHA = tarball(
    "stockfish-nnue.wasm", "1.0.0-alpha.2", "654cabbdfbcd5c635dea3de6e444db413aaa581b8cef8232cf48888036142e00", 28251002
)  # fmt: skip
DEBIAN = Archive(
    "apt", "stockfish", "15.1-4", "stockfish_15.1-4_amd64.deb",
    "ee9da8f9784d87432e6071b7707f22f89955ce44616b701ca4b11334757aa2ae", 22012376,
)  # fmt: skip
PARTS = tuple(f"package/src/stockfish-17.1-8e4d048-part-{part}.wasm" for part in range(6))
PULL = "pull request {} of official-stockfish/Stockfish: {}"
NAMED = "the name of a network is the SHA-256 of its bytes, and both packages hold nn-{}"
NONE = "no document names a network of this family as its parent"
HALF_KP, HALF_KA, MIRRORED, WIDE, SMALL, LITE = 0x3E5AA6EE, 0x3C103E72, 0x1C102EF2, 0x1C102B72, 0x1C103C92, 0x1C103EB2
"""Hashes of architectures."""


def content(opened: Mapping[str, Opened]) -> Content:
    """Returns the networks. Those with one parent in the family are copies of it; the others are strangers."""
    del opened  # nothing depends on the archives

    def network(
        name: str, archive: Archive, members: tuple[str, ...], architecture: int, digits: str, evidence: str = NONE
    ) -> Network:
        return Network(name, archive.file, members, NnueNetwork(architecture, digits), evidence=evidence)

    def copy(name: str, archive: Archive, member: str, architecture: int, digits: str, original: str) -> Network:
        reader = NnueNetwork(architecture, digits)
        evidence = NAMED.format(digits)
        return Network(name, archive.file, (member,), reader, (original,), "finetune", "duplicate", evidence)

    scratch = PULL.format("#3104", "the network after nn-82215d0fd0df was trained from scratch; no later one names it")
    same_way = PULL.format("#4107", "trained as the network before it (#4100), from no network of this family")
    tuned = PULL.format("#3703", "tuned from nn-6762d36ad265, which is in no package")
    source = "package/src"
    networks = [
        network("12", S12, (f"{source}/nn-82215d0fd0df.nnue",), HALF_KP, "82215d0fd0df"),
        network("nnue.wasm 0.0.1", WASM_1, ("package/stockfish.wasm",), HALF_KP, "62ef826d1a6d", scratch),
        copy("nnue.wasm 0.0.2", WASM_2, "package/stockfish.wasm", HALF_KP, "62ef826d1a6d", "nnue.wasm 0.0.1"),
        network("14", S14, (f"{source}/nn-26abeed38351.nnue",), HALF_KA, "26abeed38351"),
        copy("nnue.wasm 1.0.0-alpha.2", ALPHA, "package/stockfish.wasm", HALF_KA, "26abeed38351", "14"),
        network("14.1", S14_1, (f"{source}/nn-13406b1dcbe0.nnue",), 0x1C102EEC, "13406b1dcbe0", tuned),
        network("15", S15, (f"{source}/nn-6877cd24400e.nnue",), MIRRORED, "6877cd24400e"),
        network("15.1", DEBIAN, ("usr/games/stockfish",), MIRRORED, "ad9b42354671", same_way),
        network("16", S16, (f"{source}/nn-5af11540bbfe.nnue",), WIDE, "5af11540bbfe"),
        network("17.1 small", S17, PARTS, SMALL, "37f18f62d772"),
        copy("18 small", S18, f"{source}/stockfish-18.wasm", SMALL, "37f18f62d772", "17.1 small"),
        network("17.1 lite", S17, (f"{source}/stockfish-17.1-lite-single-03e3232.wasm",), LITE, "9067e33176e8"),
        copy("18 lite", S18, f"{source}/stockfish-18-lite-single.wasm", LITE, "9067e33176e8", "17.1 lite"),
    ]
    left_out = [
        LeftOut(
            "nn-76a8a7ffb820 (stockfish 16.0.0, old-nn)",
            "pull request #3626 says that it was trained from nn-d8609abe8caf, which is in no package. It differs from nn-26abeed38351 "
            "in its output layers alone, and no document that we could read says which of both came first",
        ),
        LeftOut(
            "nn-1c0000000000 (17.1) and nn-c288c895ea92 (18)", "large, and of architectures that no other network has"
        ),
        LeftOut(
            "nn-4fd273888b72 (stockfish-nnue.wasm 1.0.0-1946a675.smolnet)", "of an architecture that is not published"
        ),
        LeftOut(
            "stockfish-nnue.wasm 1.0.0-dev.e3613959; stockfish 18.0.3 to 18.0.8", "further copies of networks above"
        ),
    ]
    return Content(networks, left_out)


FAMILY = RealFamily(
    name="stockfish",
    description="Networks that evaluate chess positions (NNUE), from Stockfish 12 to 18. Most are strangers to each other, though "
    "they share piece-square values: all begin from the same material values. Four are copies in another package.",
    archives=(S12, WASM_1, WASM_2, S14, ALPHA, S14_1, S15, DEBIAN, S16, S17, S18),
    content=content,
    networks=13,
    edges=4,
    copies=4,
    licence="GPL-3.0.",
    notes=(
        "the large networks of 17.1 and 18, and nn-76a8a7ffb820, are left out",
        "needs npm, and apt-get and dpkg-deb of Debian 12 (its stockfish 15.1-4, amd64)",
    ),
)
