#!/usr/bin/env python3
"""Watches a participant by WHEP with aiortc, an independent WebRTC stack, and decodes what comes.

Usage: aiortc_whep.py WHEP_URL SECONDS
Prints "playing" at the first picture, then every second how many pictures and sounds have been decoded so far and the
height of the last picture, and "ended" after the session was deleted.
"""

import asyncio
import sys
from urllib.parse import urljoin

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

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
    await peer.setLocalDescription(await peer.createOffer())
    async with aiohttp.ClientSession() as http:
        offer = peer.localDescription.sdp
        async with http.post(url, data=offer, headers={"Content-Type": "application/sdp"}) as answer:
            body = await answer.text()
            if answer.status != 201:
                raise SystemExit(f"{answer.status}: {body}")
            session = urljoin(url, answer.headers["Location"])
        await peer.setRemoteDescription(RTCSessionDescription(body, "answer"))
        for _ in range(seconds):
            await asyncio.sleep(1)
            print("decoded", counts["video"], counts["audio"], height, flush=True)
        async with http.delete(session) as answer:
            print("ended", answer.status, flush=True)
    await peer.close()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
