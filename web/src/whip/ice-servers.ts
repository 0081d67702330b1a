// The STUN and TURN servers that an answer names in its Link headers (RFC 9725 section 4.6).

/** Every `rel="ice-server"` of a Link header, several of which `fetch` joins by commas. What cannot be read is left out. */
export function parseIceServers(header: string | null): RTCIceServer[] {
  return splitOutside(header ?? "", ",").flatMap((link) => {
    const [target, ...parts] = splitOutside(link, ";");
    const url = /^<(.+)>$/.exec(target?.trim() ?? "")?.[1];
    const parameters = new Map(parts.map(parameter));
    const relations = parameters.get("rel")?.split(" ") ?? [];
    if (!url || !relations.includes("ice-server")) return [];
    const username = parameters.get("username");
    const credential = parameters.get("credential");
    if (username !== undefined && credential !== undefined) {
      return [{ urls: url, username, credential }];
    }
    // A browser throws at a TURN server without credentials.
    return isRelay(url) ? [] : [{ urls: url }];
  });
}

/** Some of them pass media on for clients that cannot reach the node themselves. */
export function haveRelay(servers: readonly RTCIceServer[]): boolean {
  return servers.flatMap(({ urls }) => urls).some(isRelay);
}

function isRelay(url: string): boolean {
  return /^turns?:/.test(url);
}

function parameter(text: string): [string, string] {
  const at = text.indexOf("=");
  if (at < 0) return [text.trim().toLowerCase(), ""];
  const value = text.slice(at + 1).trim();
  const quoted = /^"(.*)"$/s.exec(value)?.[1];
  return [text.slice(0, at).trim().toLowerCase(), quoted?.replace(/\\(.)/gs, "$1") ?? value];
}

/** Splits at a separator that stands neither in a quoted string nor in a URL (RFC 8288 section 3). */
function splitOutside(text: string, separator: string): string[] {
  const parts = [""];
  let end: string | undefined;
  for (let at = 0; at < text.length; at += 1) {
    let piece = text.charAt(at);
    if (end === undefined && piece === separator) {
      parts.push("");
      continue;
    }
    if (end === '"' && piece === "\\") {
      at += 1;
      piece += text.charAt(at);
    } else if (piece === end) end = undefined;
    else if (end === undefined && piece === '"') end = '"';
    else if (end === undefined && piece === "<") end = ">";
    parts.push(`${parts.pop()}${piece}`);
  }
  return parts;
}
