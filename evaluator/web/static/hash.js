/* A worker: the SHA-256 of a file, piece by piece, so that one of any size fits. */
import { sha256 } from "./vendor/noble-hashes/sha2.js";

const PIECE = 8 * 2 ** 20;

onmessage = async ({ data: file }) => {
  try {
    const digest = sha256.create(), read = start => file.slice(start, start + PIECE).arrayBuffer();
    let next = read(0); // is read while the one before is hashed
    for (let start = 0; start < file.size; start += PIECE) {
      const piece = await next;
      next = read(start + PIECE);
      digest.update(new Uint8Array(piece));
      postMessage({ done: Math.min(file.size, start + PIECE) });
    }
    postMessage({ digest: [...digest.digest()].map(byte => byte.toString(16).padStart(2, "0")).join("") });
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
