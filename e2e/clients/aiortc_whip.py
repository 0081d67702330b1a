#!/usr/bin/env python3
"""Publishes a clip by WHIP with aiortc, an independent WebRTC stack; coded packets pass through as they are.

Usage: aiortc_whip.py WHIP_URL CLIP SECONDS
Prints "connected" once media flows and "ended" after the session was deleted.
"""

import asyncio
import sys
from urllib.parse import urljoin

import aiohttp
from aiortc import RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.contrib.media import MediaPlayer


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
    await peer.setLocalDescription(await peer.createOffer())
    async with aiohttp.ClientSession() as http:
        offer = peer.localDescription.sdp
        async with http.post(url, data=offer, headers={"Content-Type": "application/sdp"}) as answer:
            body = await answer.text()
            if answer.status != 201:
                raise SystemExit(f"{answer.status}: {body}")
            session = urljoin(url, answer.headers["Location"])
        waiting = asyncio.ensure_future(connected(peer))
        await peer.setRemoteDescription(RTCSessionDescription(body, "answer"))
        await waiting
        print("connected", flush=True)
        await asyncio.sleep(seconds)
        async with http.delete(session) as answer:
            print("ended", answer.status, flush=True)
    await peer.close()


asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
