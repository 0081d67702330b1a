#!/usr/bin/env python3
"""Asks Firefox what it offers: drives it by Marionette, its own remote control (a length, a colon and JSON over TCP).

Usage: firefox_offer.py FIREFOX
Prints one object: the browser's "version", and the SDP that it offers to "publish" and to "play".
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time

OFFER = """
const done = arguments[arguments.length - 1];
const offer = async (direction) => {
  const peer = new RTCPeerConnection();
  for (const kind of ["audio", "video"]) peer.addTransceiver(kind, { direction });
  await peer.setLocalDescription();
  const { sdp } = peer.localDescription;
  peer.close();
  return sdp;
};
Promise.all([offer("sendonly"), offer("recvonly")]).then(([publish, play]) => done({ publish, play }));
"""

PREFERENCES = {
    "marionette.port": 0,
    "media.peerconnection.ice.loopback": True,
    # Whatever its operating system can code, if it can.
    "media.webrtc.platformencoder": True,
    "media.navigator.mediadatadecoder_h264_enabled": True,
    # Nothing is downloaded here.
    "media.gmp-manager.updateEnabled": False,
}


class Marionette:
    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.stream = self.socket.makefile("rb")
        self.number = 0
        self.receive()

    def receive(self):
        length = b""
        while (byte := self.stream.read(1)) != b":":
            length += byte
        return json.loads(self.stream.read(int(length)))

    def call(self, command: str, **arguments):
        self.number += 1
        text = json.dumps([0, self.number, command, arguments]).encode()
        self.socket.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self.receive()
        if error:
            raise SystemExit(f"{command}: {error}")
        return result


def port_in(profile: str) -> int:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with open(os.path.join(profile, "MarionetteActivePort")) as file:
                return int(file.read())
        except (OSError, ValueError):
            time.sleep(0.05)
    raise SystemExit("Firefox cannot be driven")


def main(firefox: str) -> None:
    with tempfile.TemporaryDirectory() as profile:
        with open(os.path.join(profile, "user.js"), "w") as file:
            for name, value in PREFERENCES.items():
                file.write(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n")
        process = subprocess.Popen(
            [firefox, "--headless", "--marionette", "--no-remote", "--profile", profile],
            env={**os.environ, "HOME": profile},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            browser = Marionette(port_in(profile))
            session = browser.call("WebDriver:NewSession")
            browser.call("WebDriver:Navigate", url="about:blank")
            offers = browser.call("WebDriver:ExecuteAsyncScript", script=OFFER, args=[])["value"]
            version = session["capabilities"]["browserVersion"]
            print(json.dumps({"version": version, **offers}), flush=True)
        finally:
            process.terminate()
            process.wait()


main(sys.argv[1])
