import assert from "node:assert/strict";
import { test } from "node:test";
import { History, OTHERS, Trend } from "../../src/live/history.js";
import { COLORS, colorsOf } from "../../src/live/colors.js";
import { Intake, Told } from "../../src/live/intake.js";
import { Rate } from "../../src/live/rates.js";
import { Template } from "../../src/topics.js";

test("templates: filters and captures", () => {
  assert.equal(new Template("music/{sensor}/genre").filter, "music/+/genre");
  assert.deepEqual(new Template("music/{sensor}/genre").match("music/kitchen/genre"), ["kitchen"]);
  assert.deepEqual(new Template("music/{sensor}/genre").match("music//genre"), [""]);
  assert.equal(new Template("music/{sensor}/genre").match("music/a/b/genre"), null);
  assert.equal(new Template("out/{a...}/error").filter, "out/#");
  assert.deepEqual(new Template("out/{a...}/{b}").match("out/1/2/3"), ["1/2", "3"]);
  assert.equal(new Template("out/{a...}/error").match("out/error"), null);
});

test("what comes is handed on in its order, within the budget of a frame", () => {
  let now = 0;
  const intake = new Intake({ limit: 100, clock: () => now });
  for (let one = 0; one < 100; one += 1) assert.ok(intake.offer({ one }));
  assert.equal(intake.offer({ one: 100 }), false);
  const seen = [];
  const take = ({ one }) => {
    now += 1;
    seen.push(one);
  };
  assert.equal(intake.drain(take, 6), 16);
  while (intake.length) intake.drain(take, 6);
  assert.deepEqual(seen, Array.from({ length: 100 }, (_, one) => one));
  assert.deepEqual([intake.offered, intake.skipped], [101, 1]);
});

test("more than a frame can take is sampled without preference, and again all of it when it calms down", () => {
  let now = 0;
  let state = 1;
  const random = () => (state = (state * 48271) % 2147483647) / 2147483647;
  const intake = new Intake({ limit: 100, clock: () => now, random });
  const weights = new Map();
  let sum = 0;
  const take = ({ sensor, weight }) => {
    now += 1;
    sum += weight;
    weights.set(sensor, (weights.get(sensor) ?? 0) + weight);
  };
  // 64 messages a frame from eight sensors in turn, and room for 16.
  for (let frame = 0; frame < 2000; frame += 1) {
    for (let one = 0; one < 64; one += 1) intake.offer({ sensor: one % 8 });
    intake.drain(take, 10);
  }
  assert.ok(intake.every > 1, "sampled");
  const offered = 2000 * 64;
  assert.ok(Math.abs(sum - offered) < offered / 4, `about what came: ${sum} of ${offered}`);
  for (const [sensor, weight] of weights) assert.ok(Math.abs(weight - sum / 8) < sum / 40, `sensor ${sensor}: ${weight} of ${sum}`);
  while (intake.length) intake.drain(take, 10);
  for (let frame = 0; frame < 1200; frame += 1) intake.drain(take, 10);
  assert.equal(intake.every, 1);
});

test("the rate is that of the last whole seconds", () => {
  const rate = new Rate();
  assert.equal(rate.at(500), 0);
  for (let time = 0; time < 10_000; time += 100) rate.add(time, 2);
  assert.equal(rate.at(9_950), 20);
  assert.equal(rate.at(12_500), 12);
  assert.equal(rate.at(60_000), 0);
  rate.add(1000); // a clock that was set back
  assert.ok(rate.at(60_500) >= 0);
});

test("a sensor's points are a second apart, unless the label changes, and bounded", () => {
  const history = new History(50);
  for (let time = 0; time < 100_000; time += 10) history.add(time, 0, 0.5);
  assert.equal(history.length, 50);
  const points = history.since(90_000);
  assert.deepEqual([points[0][0], points.at(-1)[0]], [90_000, 99_000]);
  history.add(99_500, 1, undefined);
  assert.deepEqual(history.since(99_400), [[99_500, 1, null]]);
});

test("what nodes tell is kept by topic until it is taken, and what is too much is counted", () => {
  let now = 0;
  const told = new Told({ limit: 3, clock: () => now });
  for (const topic of ["a", "b", "a", "c", "d", "e", "b"]) told.offer({ topic, number: (now += 1) });
  assert.equal(told.skipped, 2);
  const seen = [];
  const take = ({ topic, number }) => (seen.push([topic, number]), (now += 4));
  told.drain(take, 6);
  assert.deepEqual(seen, [["a", 3], ["b", 7]]);
  told.drain(take, 6);
  assert.deepEqual(seen.at(-1), ["c", 4]);
  told.offer({ topic: "d", number: 9 });
  told.clear();
  told.drain(take, 6);
  assert.deepEqual([seen.length, told.skipped], [3, 0]);
});

test("colors of labels do not depend on which came first, and are told apart as long as there are enough", () => {
  const names = ["Rock", "Hip-Hop", "(uncertain)"];
  const byName = (labels) => Object.fromEntries(colorsOf(labels, []).map((color, place) => [labels[place], color]));
  assert.deepEqual(byName(names), byName([...names].reverse()));
  const many = Array.from({ length: COLORS + 5 }, (_, place) => `label ${place}`);
  assert.equal(new Set(colorsOf(many.slice(0, COLORS), [])).size, COLORS);
  assert.ok(colorsOf(many, many).every((color) => color >= 0 && color < COLORS));
  // A known one has its own, even if a stranger came before.
  for (const stranger of many) assert.equal(colorsOf([stranger, "Rock"], ["Hip-Hop", "Rock"])[1], 1);
});

test("labels are counted by second; beyond a dozen they share a place", () => {
  const trend = new Trend({ seconds: 10, most: 2 });
  trend.add(1_000, "Rock", undefined, 0.9);
  trend.add(1_500, "Hip-Hop", undefined, 0.7);
  trend.add(2_000, "Rock", undefined, 0.8, 4);
  for (let one = 0; one < 1000; one += 1) trend.add(2_000, `label ${one}`, undefined, 0.5);
  assert.deepEqual(trend.labels, ["Rock", "Hip-Hop", OTHERS]);
  const { times, counts, confidence } = trend.series(3_500, 3);
  assert.deepEqual(times, [0, 1, 2]);
  assert.deepEqual(counts, [[null, 1, 4], [null, 1, 0], [null, 0, 1000]]);
  assert.ok(Math.abs(confidence[1] - 0.8) < 1e-9);
  // What was not watched is not zero.
  trend.pause();
  trend.add(6_000, "Rock");
  assert.deepEqual(trend.series(8_500, 6).counts[0], [4, null, null, null, 1, 0]);
  for (let second = 3; second < 500; second += 1) trend.add(second * 1000, "Rock");
  assert.ok(trend._buckets.size <= 11);
});
