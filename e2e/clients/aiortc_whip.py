#!/usr/bin/env python3
"""Publishes a clip by WHIP with aiortc, an independent WebRTC stack; coded packets pass through as they are.

Usage: aiortc_whip.py WHIP_URL CLIP SECONDS
Prints "connected" once media flows and "ended" after the session was deleted.
"""

import asyncio
import sys

from aiortc import RTCPeerConnection, RTCRtpSender
from aiortc.contrib.media import MediaPlayer

from session import session


async def connected(peer: RTCPeerConnection) -> None:
    event = asyncio.Event()

    @peer.on("connectionstatechange")
    def changed() -> None:
        if peer.connectionState in ("connected", "failed", "closed"):
            event.set()

    await asyncio.wait_for(event.wait(), 15)
    if peer.connectionState != "connected":
        raise SystemExit(f"the connection is {peer.connectionState}")


async def main(url: str, clip: str, seconds: float) -> None:
    player = MediaPlayer(clip, decode=False)
    peer = RTCPeerConnection()
    peer.addTrack(player.audio)
    video = peer.addTransceiver(player.video, direction="sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    video.setCodecPreferences([c for c in codecs if c.mimeType in ("video/H264", "video/rtx")])
    waiting = asyncio.ensure_future(connected(peer))
    async with session(peer, url):
        await waiting
        print("connected", flush=True)
        await asyncio.sleep(seconds)
    await peer.close()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
