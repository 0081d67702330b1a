"""A WHIP or WHEP session of aiortc: from the offer to the DELETE."""

from contextlib import asynccontextmanager
from urllib.parse import urljoin

import aiohttp
from aiortc import RTCPeerConnection, RTCSessionDescription


@asynccontextmanager
async def session(peer: RTCPeerConnection, url: str):
    """Offers, takes the answer, and deletes the session at the end. Prints "ended" and the status then."""
    await peer.setLocalDescription(await peer.createOffer())
    async with aiohttp.ClientSession() as http:
        offer = peer.localDescription.sdp
        async with http.post(url, data=offer, headers={"Content-Type": "application/sdp"}) as answer:
            body = await answer.text()
            if answer.status != 201:
                raise SystemExit(f"{answer.status}: {body}")
            location = urljoin(url, answer.headers["Location"])
        await peer.setRemoteDescription(RTCSessionDescription(body, "answer"))
        yield
        async with http.delete(location) as answer:
            print("ended", answer.status, flush=True)
