// What both pages of `opendance app` share: requests, and how jobs are worded.
"use strict";

// Return the answer to a request as JSON; an Error has the server's text and the status.
async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw Object.assign(new Error("The server does not answer. Is it still running?"), { status: 0 });
  }
  const found = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(found.error ?? `The server answered ${answer.status}.`), { status: answer.status });
  return found;
}

const kindOf = (job) => [
  job.dancers === 2 ? "couple" : "solo", ...(job.energy === "normal" ? [] : [job.energy]), `seed ${job.seed}`,
  ...(job.own_beats ? ["own beats"] : []), ...(job.start_s || job.end_s !== null ? [`from ${job.start_s} s`] : []),
].join(", ");

function progressOf(job) {
  if (job.status === "failed") return job.step;
  if (job.status === "working") return `${job.step}: ${Math.round(100 * job.share)} %`;
  if (job.status === "queued") return job.ahead === 0 ? "Next" : `Waits: ${job.ahead} before it`;
  return `${job.bpm.toFixed(0)} bpm`;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
