/** Letters and digits by chance, at most as many as a client id may have. @param {number} length */
export function random(length) {
  const alphabet = "abcdefghijkmnpqrstuvwxyz23456789";
  return Array.from(crypto.getRandomValues(new Uint8Array(length)), (one) => alphabet[one % 32]).join("");
}
