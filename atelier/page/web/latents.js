// The latents and the grain of a recipe, as atelier/canvas/latents.py and atelier/networks/latent_field.py draw them:
// torch's Mersenne Twister, its normal numbers in float64, and the steps of a recipe. A field is a Float32Array in the
// order [number][row][column].

const INDEX_STRIDE = 0x9e3779b1n; // of latent_field.py
const MIN_LENGTH = 1e-30;
const MIN_SINE = 1e-9;

// SHA-256 (FIPS 180-4) of bytes. Written out, because crypto.subtle is missing on pages that some browsers do not trust.
export function sha256(bytes) {
  const primes = [];
  for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
  const fraction = (x) => ((x - Math.floor(x)) * 2 ** 32) >>> 0;
  const k = primes.map((p) => fraction(Math.cbrt(p)));
  const hash = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  const length = ((bytes.length + 8) >> 6) + 1;
  const padded = new Uint8Array(length * 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setBigUint64(padded.length - 8, BigInt(bytes.length) * 8n);
  const rotate = (x, n) => (x >>> n) | (x << (32 - n));
  const w = new Int32Array(64);
  for (let block = 0; block < padded.length; block += 64) {
    for (let i = 0; i < 16; i++) w[i] = view.getInt32(block + 4 * i);
    for (let i = 16; i < 64; i++) {
      const s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ (w[i - 15] >>> 3);
      const s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ (w[i - 2] >>> 10);
      w[i] = w[i - 16] + s0 + w[i - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let i = 0; i < 64; i++) {
      const s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const t1 = (h + s1 + ((e & f) ^ (~e & g)) + k[i] + w[i]) | 0;
      const s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((x, i) => (hash[i] = (hash[i] + x) >>> 0));
  }
  const digest = new Uint8Array(32);
  hash.forEach((x, i) => new DataView(digest.buffer).setUint32(4 * i, x));
  return digest;
}

export const hex = (bytes) => Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");

// The first four bytes of the SHA-256 of a text, as a number.
const key32 = (text) => new DataView(sha256(new TextEncoder().encode(text)).buffer).getUint32(0);

// MT19937 (Matsumoto & Nishimura 1998), seeded as torch.manual_seed does on a CPU.
class MersenneTwister {
  constructor(seed) {
    const s = (this.state = new Uint32Array(624));
    s[0] = seed;
    for (let i = 1; i < 624; i++) s[i] = Math.imul(1812433253, s[i - 1] ^ (s[i - 1] >>> 30)) + i;
    this.next = 624;
  }

  random32() {
    const s = this.state;
    if (this.next === 624) {
      for (let i = 0; i < 624; i++) {
        const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
        s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      this.next = 0;
    }
    let y = s[this.next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  // In [0, 1), from the low 53 bits of two numbers.
  uniform() {
    const high = this.random32();
    return ((high & 0x1fffff) * 2 ** 32 + this.random32()) * 2 ** -53;
  }
}

// torch.randn(count, dtype=float64): in blocks of 16 by Box and Muller's transform; fewer than 16 one by one.
export function normals(seed, count) {
  const random = new MersenneTwister(seed);
  const values = new Float64Array(count);
  if (count < 16) {
    for (let i = 0; i < count; i += 2) {
      const angle = 2 * Math.PI * random.uniform();
      const radius = Math.sqrt(-2 * Math.log1p(-random.uniform()));
      values[i] = radius * Math.cos(angle);
      if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
    }
    return values;
  }
  const transform = (start) => {
    for (let j = start; j < start + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[j]));
      const angle = 2 * Math.PI * values[j + 8];
      values[j] = radius * Math.cos(angle);
      values[j + 8] = radius * Math.sin(angle);
    }
  };
  for (let i = 0; i < count; i++) values[i] = random.uniform();
  for (let i = 0; i + 16 <= count; i += 16) transform(i);
  if (count % 16) {
    for (let i = count - 16; i < count; i++) values[i] = random.uniform();
    transform(count - 16);
  }
  return values;
}

// draw_latents: the field of picture `index` of `seed` with an independent latent in every cell.
export function drawLatents(seed, index, nz, [rows, columns], truncation) {
  const base = BigInt(key32(`atelier-latent/1:${seed}`));
  const seed32 = Number((base + BigInt(index) * INDEX_STRIDE) % 2n ** 32n);
  return Float32Array.from(normals(seed32, nz * rows * columns), (x) => x * truncation);
}

// grain_function: the grain of every cell; that of the first station in a walk.
export function drawGrain(recipe, numbers) {
  const { seed, index } = recipe.walk ? recipe.walk.stations[0] : recipe;
  const [rows, columns] = recipe.canvas;
  const grain = new Float32Array(numbers * rows * columns);
  for (let cell = 0; numbers && cell < rows * columns; cell++) {
    const drawn = normals(key32(`atelier-grain/1:${seed}:${index}:${Math.floor(cell / columns)}:${cell % columns}`), numbers);
    for (let i = 0; i < numbers; i++) grain[i * rows * columns + cell] = drawn[i];
  }
  return grain;
}

// latent_field: the latents of a recipe with the layout "random".
export function latentField(recipe, nz, directions) {
  const draw = (seed, index) => drawLatents(seed, index, nz, recipe.canvas, recipe.truncation);
  let field;
  if (recipe.walk) {
    const [start, end, position] = walkPosition(recipe.walk);
    field = slerp(draw(start.seed, start.index), draw(end.seed, end.index), position, nz);
  } else {
    field = draw(recipe.seed, recipe.index);
  }
  const variations = recipe.variation ? [...recipe.varied, recipe.variation] : [];
  variations.forEach(({ number, strength }, place) => {
    const before = variations.slice(0, place).map((variation) => variation.number);
    const seed = key32(["atelier-variation/1", recipe.seed, recipe.index, ...before].join(":")) >>> 1;
    const other = draw(seed, number);
    const angle = (strength * Math.PI) / 2;
    const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
    field = field.map((x, i) => cosine * x + sine * other[i]);
  });
  if (recipe.moves.length) {
    const cells = field.length / nz;
    const way = new Float64Array(nz);
    for (const { direction, amount } of recipe.moves) directions[direction].forEach((x, i) => (way[i] += amount * x));
    field = field.map((x, i) => x + way[Math.floor(i / cells)]);
  }
  return field;
}

// label_weights: of each of a model's labels, in a walk between those of its stations.
export function labelWeights(recipe, labels) {
  const oneHot = (label) => labels.map((name) => (name === label ? 1 : 0));
  if (!recipe.walk) return oneHot(recipe.label);
  const [start, end, position] = walkPosition(recipe.walk);
  const other = oneHot(end.label);
  return oneHot(start.label).map((weight, i) => weight + position * (other[i] - weight));
}

// walk_position, for walks without a loop.
function walkPosition({ stations, frame, frames, easing }) {
  const stretches = stations.length - 1;
  const stretch = Math.min(Math.floor((frame * stretches) / (frames - 1)), stretches - 1);
  const position = (frame * stretches - stretch * (frames - 1)) / (frames - 1);
  const eased = easing === "smooth" ? position * position * (3 - 2 * position) : position;
  return [stations[stretch], stations[stretch + 1], eased];
}

// interpolation.slerp: every cell turns along the arc, and its length changes linearly.
function slerp(start, end, position, nz) {
  const cells = start.length / nz;
  const field = new Float32Array(start.length);
  for (let cell = 0; cell < cells; cell++) {
    const one = Float64Array.from({ length: nz }, (_, i) => start[i * cells + cell]);
    const other = Float64Array.from({ length: nz }, (_, i) => end[i * cells + cell]);
    const [length, endLength] = [norm(one), norm(other)];
    const first = one.map((x) => x / Math.max(length, MIN_LENGTH));
    const last = other.map((x) => x / Math.max(endLength, MIN_LENGTH));
    const angle = 2 * Math.atan2(norm(first.map((x, i) => x - last[i])), norm(first.map((x, i) => x + last[i])));
    const [sine, away, towards] = [Math.sin(angle), Math.sin((1 - position) * angle), Math.sin(position * angle)];
    const scale = (length + position * (endLength - length)) / sine;
    for (let i = 0; i < nz; i++) {
      field[i * cells + cell] =
        sine > MIN_SINE ? (away * first[i] + towards * last[i]) * scale : one[i] + position * (other[i] - one[i]);
    }
  }
  return field;
}

const norm = (vector) => Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
