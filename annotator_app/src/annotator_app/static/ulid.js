// ULIDs: 48 bits of time, 80 random bits, 26 letters that sort by time, also within one millisecond.

const LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
let lastTime = 0;
let lastRandom = new Uint8Array(16); // one digit of base 32 each

/** A new ULID that sorts after every earlier one of this page. */
export function ulid(now = Date.now()) {
  if (now > lastTime) {
    lastTime = now;
    // A leading digit below 16 leaves room to count upwards.
    lastRandom = crypto.getRandomValues(new Uint8Array(16)).map((byte, at) => byte & (at ? 31 : 15));
  } else {
    for (let at = 15; at >= 0; at -= 1) {
      lastRandom[at] = (lastRandom[at] + 1) & 31;
      if (lastRandom[at]) break;
    }
  }
  let time = lastTime;
  let head = "";
  for (let digit = 0; digit < 10; digit += 1) {
    head = LETTERS[time % 32] + head;
    time = Math.floor(time / 32);
  }
  return head + Array.from(lastRandom, (digit) => LETTERS[digit]).join("");
}
