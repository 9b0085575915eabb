// A PNG of 8-bit RGB with Atelier's provenance in an iTXt chunk, as atelier/pictures/png.py reads it.

import { hex, sha256 } from "./latents.js";

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function chunk(kind, body) {
  const bytes = new Uint8Array(body.length + 12);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length);
  bytes.set(new TextEncoder().encode(kind), 4);
  bytes.set(body, 8);
  let crc = ~0;
  for (const byte of bytes.subarray(4, -4)) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  view.setUint32(bytes.length - 4, ~crc);
  return bytes;
}

// The provenance of pixels as canonical JSON: sorted keys, no spaces, ASCII.
export function provenance(model, software, recipe, { rgb, width, height }) {
  const pixels = { bits: 8, height, sha256: hex(sha256(rgb)), width };
  const facts = { format: "atelier-provenance/4", latent: recipe, model, pick: null, pixels, print: null, software };
  const sorted = (value) =>
    value && typeof value === "object" && !Array.isArray(value)
      ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]))
      : Array.isArray(value) ? value.map(sorted) : value;
  const ascii = (character) => "\\u" + character.charCodeAt(0).toString(16).padStart(4, "0");
  return JSON.stringify(sorted(facts)).replace(/[\u007f-\uffff]/g, ascii);
}

// Encode pixels (a Uint8Array of RGB, row by row) and the text as a Blob.
export async function encodePng({ rgb, width, height }, text) {
  const rows = new Uint8Array(height * (3 * width + 1)); // each with the filter "none" before it
  for (let y = 0; y < height; y++) rows.set(rgb.subarray(3 * width * y, 3 * width * (y + 1)), (3 * width + 1) * y + 1);
  const zlib = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(zlib).arrayBuffer());
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, 2, 0, 0, 0], 8);
  const signature = Uint8Array.of(137, 80, 78, 71, 13, 10, 26, 10);
  const words = new TextEncoder().encode(`atelier\0\0\0\0\0${text}`);
  const chunks = [chunk("IHDR", header), chunk("iTXt", words), chunk("IDAT", data), chunk("IEND", new Uint8Array())];
  return new Blob([signature, ...chunks], { type: "image/png" });
}
