// What the model says is data: it enters the page as text, never as markup.
"use strict";
const $ = (id) => document.getElementById(id);
const talk = [];
let running = null;

function say(kind, text) {
  const box = document.createElement("article");
  box.className = kind;
  box.textContent = text;
  $("said").append(box);
  box.scrollIntoView({ block: "end" });
  return box;
}

function asked(chat, text) {
  const rule = { temperature: Number($("temperature").value), max_tokens: Number($("tokens").value),
                 seed: Math.floor(Math.random() * 2 ** 31), stream: true };
  return chat ? { ...rule, messages: [...talk, { role: "user", content: text }] } : { ...rule, prompt: text };
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) yield part.replace(/^data: /, "");
  }
}

async function send(text) {
  const chat = $("way").value !== "completions";
  say("person", text);
  const box = say("model", "");
  running = new AbortController();
  const headers = { "Content-Type": "application/json" };
  if ($("secret").value) headers.Authorization = `Bearer ${$("secret").value}`;
  const answer = await fetch(`/v1/${$("way").value}`,
    { method: "POST", headers, body: JSON.stringify(asked(chat, text)), signal: running.signal });
  if (!answer.ok) throw new Error((await answer.json()).error.message);
  for await (const event of events(answer.body)) {
    if (event === "[DONE]") break;
    const part = JSON.parse(event);
    if (part.error) throw new Error(part.error.message);
    box.textContent += chat ? (part.choices[0].delta.content ?? "") : part.choices[0].text;
  }
  if (chat) talk.push({ role: "user", content: text }, { role: "assistant", content: box.textContent || " " });
}

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const text = $("text").value;
  if (running || !text) return;
  $("text").value = "";
  $("go").disabled = true;
  $("stop").disabled = false;
  try { await send(text); }
  catch (error) { if (error.name !== "AbortError") say("error", error.message); }
  running = null;
  $("go").disabled = false;
  $("stop").disabled = true;
});
$("stop").addEventListener("click", () => running?.abort());
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); $("ask").requestSubmit(); }
});
fetch("/health").then((r) => r.json()).then((about) => { $("model").textContent = about.model; });
