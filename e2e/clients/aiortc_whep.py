#!/usr/bin/env python3
"""Watches a participant by WHEP with aiortc, an independent WebRTC stack, and decodes what comes.

Usage: aiortc_whep.py WHEP_URL SECONDS
Prints "playing" at the first picture, then every second how many pictures and sounds have been decoded so far and the
height of the last picture, and "ended" after the session was deleted.
"""

import asyncio
import sys

from aiortc import RTCPeerConnection
from aiortc.mediastreams import MediaStreamError

from session import session

counts = {"video": 0, "audio": 0}
height = 0


async def read(track) -> None:
    global height
    while True:
        try:
            frame = await track.recv()
        except MediaStreamError:
            return
        counts[track.kind] += 1
        if track.kind == "video":
            height = frame.height
            if counts["video"] == 1:
                print("playing", flush=True)


async def main(url: str, seconds: int) -> None:
    peer = RTCPeerConnection()
    peer.addTransceiver("audio", direction="recvonly")
    peer.addTransceiver("video", direction="recvonly")
    readers = []
    peer.on("track", lambda track: readers.append(asyncio.ensure_future(read(track))))
    async with session(peer, url):
        for _ in range(seconds):
            await asyncio.sleep(1)
            print("decoded", counts["video"], counts["audio"], height, flush=True)
    await peer.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
