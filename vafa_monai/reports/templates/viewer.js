"use strict";
// Draws one case slice by slice from the volumes in this page; nothing is loaded.
(() => {
  const source = document.getElementById("viewer-data");
  if (!source) return;
  const viewer = document.getElementById("viewer");
  if (typeof DecompressionStream === "undefined") {
    document.getElementById("viewer-missing").textContent =
      "This browser is too old for the slice viewer; the picture below shows the middle slice.";
    return;
  }
  const data = JSON.parse(source.textContent);
  const part = (name) => viewer.querySelector(`[data-part="${name}"]`);
  const rgb = (color) => [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
  const colors = data.colors.map(rgb);
  const [blue, white, red] = ["#2166ac", "#f7f7f7", "#b2182b"].map(rgb);
  const broken = rgb("#e5002b");
  const unpacked = new Map();
  let drawing = 0;

  async function unpack(text) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  function volume(index) {
    if (!unpacked.has(index)) unpacked.set(index, unpack(data.volumes[index]));
    return unpacked.get(index);
  }

  const model = () => data.models[part("model").selectedIndex];
  const attack = () => model().attacks[part("attack").selectedIndex];
  const shown = () => new Set([...part("organs").querySelectorAll("input")].filter((box) => box.checked).map((box) => Number(box.value)));
  const mix = (from, to, share) => from.map((start, channel) => start + (to[channel] - start) * share);
  const number = (value) => (value === null || value === undefined ? "\u2013" : value.toFixed(3));

  function paint(name, width, height, ratio, pixel, description) {
    const canvas = part(name);
    canvas.width = width;
    canvas.height = height;
    canvas.style.aspectRatio = ratio;
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    for (let index = 0; index < width * height; index += 1) {
      const [r, g, b] = pixel(index);
      image.data.set([r, g, b, 255], 4 * index);
    }
    context.putImageData(image, 0, 0);
    canvas.setAttribute("aria-label", description);
  }

  function areas(mask, organs) {
    const counts = new Map();
    for (const organ of mask) counts.set(organ, (counts.get(organ) ?? 0) + 1);
    const words = [...organs].map((organ) => `${data.classes[organ]} ${counts.get(organ) ?? 0}`);
    return words.length ? `voxels: ${words.join(", ")}` : "no organ is switched on";
  }

  async function draw() {
    const ticket = (drawing += 1);
    const one = model();
    const hit = attack();
    const [width, height, depth] = one.size;
    const slider = part("slice");
    const slice = Number(slider.value);
    const volumes = await Promise.all([one.clean, one.label, one.pred, hit.delta, hit.pred].map(volume));
    if (ticket !== drawing) return; // another choice was made while this one was unpacked
    const place = slice * width * height;
    const [clean, label, before, change, after] = volumes.map((all) => all.subarray(place, place + width * height));
    const signed = new Int8Array(change.buffer, change.byteOffset, change.length);
    const attacked = clean.map((gray, index) => Math.round(Math.min(255, Math.max(0, gray + (signed[index] * hit.gray) / 127))));
    const organs = shown();
    const marked = part("marks").checked;
    const isBroken = (index) => after[index] !== label[index] && before[index] === label[index];
    const gray = (image) => (index) => [image[index], image[index], image[index]];
    const overlay = (image, mask) => (index) => (organs.has(mask[index]) ? mix(gray(image)(index), colors[mask[index]], 0.62) : gray(image)(index));
    const pattern = (index) => ((index % width) + Math.floor(index / width)) % 2 === 0;
    const where = `slice ${slice + 1} of ${depth}`;
    const panes = [
      ["image", gray(clean), `Image before the attack, ${where}`],
      ["attacked", gray(attacked), `Image after the attack, ${where}`],
      ["change", (index) => mix(white, signed[index] < 0 ? blue : red, Math.min(1, (Math.abs(signed[index]) * hit.gray) / 127 / hit.scale)), `Change of the image, ${where}: red brighter, blue darker, the ends of the scale are ${hit.scale.toFixed(1)} gray levels`],
      ["reference", overlay(clean, label), `Reference, ${where}, ${areas(label, organs)}`],
      ["before", overlay(clean, before), `Prediction without attack, ${where}, ${areas(before, organs)}`],
      ["after", (index) => (marked && isBroken(index) && pattern(index) ? broken : overlay(attacked, after)(index)), `Prediction under attack, ${where}, ${areas(after, organs)}`],
    ];
    for (const [name, pixel, description] of panes) paint(name, width, height, one.ratio, pixel, description);
    const wrong = after.filter((_, index) => isBroken(index)).length;
    slider.setAttribute("aria-valuetext", where);
    part("where").textContent = `${slice + 1} of ${depth}`;
    part("scale").textContent = `red brighter, blue darker, \u00b1${hit.scale.toFixed(1)} of 255 gray levels`;
    const scores = data.classes.slice(1).map((name, index) => `${name} ${number(one.dice[index + 1])} \u2192 ${number(hit.dice[index + 1])}`);
    part("status").textContent = `${hit.title} on ${one.name}, case ${one.case}, ${where}: ${wrong} voxels of this slice became wrong. DSC of the whole case, before \u2192 after: ${scores.join("; ")}.`;
    viewer.dataset.drawn = String(ticket);
  }

  function fill(select, names) {
    select.replaceChildren(...names.map((name) => new Option(name)));
  }

  function chooseModel() {
    const title = part("attack").value;
    const first = part("attack").length === 0;
    fill(part("attack"), model().attacks.map((one) => one.title));
    const same = model().attacks.findIndex((one) => one.title === title);
    part("attack").selectedIndex = first || same < 0 ? model().start : same;
    const slider = part("slice");
    const last = model().size[2] - 1;
    const share = slider.max > 0 ? slider.value / slider.max : 0.5;
    slider.max = last;
    slider.value = Math.round(share * last);
    draw();
  }

  function moveSlice(event) {
    const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const slider = part("slice");
    slider.value = Number(slider.value) + steps[event.key];
    draw();
  }

  fill(part("model"), data.models.map((one) => one.name));
  part("model").addEventListener("change", chooseModel);
  part("attack").addEventListener("change", draw);
  part("slice").addEventListener("input", draw);
  part("organs").addEventListener("change", draw);
  part("marks").addEventListener("change", draw);
  part("panes").addEventListener("keydown", moveSlice);
  viewer.hidden = false;
  part("slice").max = 0;
  chooseModel();
})();
