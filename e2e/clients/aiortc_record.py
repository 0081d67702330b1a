#!/usr/bin/env python3
"""Records what aiortc, an independent WebRTC stack, sees and hears of a channel's program by WHEP.

Usage: aiortc_record.py WHEP_URL FOLDER
Prints "playing" at the first picture, and records until SIGTERM. FOLDER then holds
- pictures: a line for each picture: RTP time since the first, drawn number (- when unreadable), 1 when it carries the flash, arrival in s
- sound.raw: 16-bit stereo, and sounds: a line for each packet: RTP time since the first, samples
- reports: a line for each sender report: video or audio, NTP time in s, RTP time since the first of its kind
"""

import asyncio
import signal
import sys
import time
from pathlib import Path

from aiortc import RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtcpSrPacket

from session import session

CODE_BITS = 20


def drawn(frame) -> tuple[str, int]:
    """The number along the top, whose inverse is below it, and whether the bottom is lit."""
    plane = frame.planes[0]
    luma, stride = memoryview(plane), plane.line_size
    square = frame.width // (2 * CODE_BITS) * 2
    number = 0
    for bit in range(CODE_BITS):
        x = bit * square + square // 2
        top = luma[square // 2 * stride + x] > 128
        if top == (luma[(square + square // 2) * stride + x] > 128):
            return "-", 0
        number = number * 2 + int(top)
    row = (frame.height - square // 2) * stride
    lit = sum(luma[row : row + frame.width // 2]) > 64 * frame.width
    return str(number), int(lit)


async def see(track, folder: Path) -> None:
    with (folder / "pictures").open("w") as out:
        is_first = True
        while True:
            frame = await track.recv()
            if is_first:
                print("playing", flush=True)
                is_first = False
            number, lit = drawn(frame)
            print(frame.pts, number, lit, time.monotonic(), file=out)


async def hear(track, folder: Path) -> None:
    with (folder / "sound.raw").open("wb") as raw, (folder / "sounds").open("w") as out:
        while True:
            frame = await track.recv()
            raw.write(bytes(frame.planes[0])[: 4 * frame.samples])
            print(frame.pts, frame.samples, file=out)


def note_reports(receiver, kind: str, reports: list) -> None:
    """aiortc keeps sender reports to itself: look over its shoulder."""
    handle = receiver._handle_rtcp_packet

    async def noted(packet):
        if isinstance(packet, RtcpSrPacket):
            info = packet.sender_info
            reports.append((kind, info.ntp_timestamp / 2**32, info.rtp_timestamp, receiver))
        await handle(packet)

    receiver._handle_rtcp_packet = noted


def write_reports(reports: list, folder: Path) -> None:
    with (folder / "reports").open("w") as out:
        for kind, ntp, rtp, receiver in reports:
            first = receiver._RTCRtpReceiver__timestamp_mapper._origin
            if first is not None:
                print(kind, ntp, (rtp - first) % 2**32, file=out)


async def main(url: str, folder: Path) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    peer = RTCPeerConnection()
    reports = []
    for kind in ("audio", "video"):
        note_reports(peer.addTransceiver(kind, direction="recvonly").receiver, kind, reports)
    readers = []
    work = {"audio": hear, "video": see}
    peer.on("track", lambda track: readers.append(asyncio.ensure_future(work[track.kind](track, folder))))
    async with session(peer, url):
        await ended.wait()
    write_reports(reports, folder)
    await peer.close()
    for error in await asyncio.gather(*readers, return_exceptions=True):
        if not isinstance(error, MediaStreamError):
            raise error


asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
