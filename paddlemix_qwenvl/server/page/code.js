// A request as a program: Python with the `openai` package, and curl. Pictures are read from files of their names.

import { requestBody } from "./request.js";

const KEY = "QWENVL_API_KEY";

/** The request for the answer at `turns[end]`, for a shell. */
export function asCurl(conversation, end, settings, model, base) {
  const files = [];
  const body = requestBody(conversation, end, settings, model, (medium, number) => {
    files.push([`medium_${number}`, medium]);
    return `data:${medium.blob.type};base64,\u0000medium_${number}\u0000`;
  });
  const json = JSON.stringify(body, null, 2)
    .replace(/[\\$`]/g, "\\$&")
    .replace(/\\\\u0000(\w+?)\\\\u0000/g, "${$1}");
  return [
    ...files.map(([variable, medium]) => `${variable}=$(base64 < ${shellQuoted(medium.name)} | tr -d '\\n')`),
    `curl ${shellQuoted(`${base}v1/chat/completions`)} -H 'Content-Type: application/json' \\`,
    ...(settings.api_key ? [`  -H "Authorization: Bearer $${KEY}" \\`] : []),
    "  -d @- <<END_OF_BODY",
    json,
    "END_OF_BODY",
    "",
  ].join("\n");
}

/** The request for the answer at `turns[end]`, in Python. */
export function asPython(conversation, end, settings, model, base) {
  let files = false;
  const { grounding, mm_processor_kwargs, ...body } = requestBody(conversation, end, settings, model, (medium) => {
    files = true;
    return { call: `data_uri(${pythonValue(medium.name, "")}, ${pythonValue(medium.blob.type, "")})` };
  });
  const extra = { grounding, ...(mm_processor_kwargs && { mm_processor_kwargs }) };
  const fields = Object.entries({ ...body, extra_body: extra }).map(
    ([name, value]) => `    ${name}=${pythonValue(value, "    ")},`,
  );
  return [
    ...(files ? ["import base64"] : []),
    ...(settings.api_key ? ["import os"] : []),
    ...(files ? ["from pathlib import Path"] : []),
    ...(files || settings.api_key ? [""] : []),
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${pythonValue(`${base}v1`, "")}, api_key=${settings.api_key ? `os.environ["${KEY}"]` : '"none"'})`,
    "",
    ...(files
      ? [
          "",
          "def data_uri(path, media_type):",
          '    return f"data:{media_type};base64,{base64.b64encode(Path(path).read_bytes()).decode()}"',
          "",
          "",
        ]
      : []),
    "answer = client.chat.completions.create(",
    ...fields,
    ")",
    "print(answer.choices[0].message.content)",
    "print(answer.choices[0].message.grounding)",
    "",
  ].join("\n");
}

const shellQuoted = (text) =>
  /^[\w./:-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** A value as Python writes it. JSON's strings are Python's too, but for what stands in pairs. */
function pythonValue(value, indent) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (typeof value !== "object") return JSON.stringify(value);
  if (value.call) return value.call;
  const inner = `${indent}    `;
  const entries = Array.isArray(value)
    ? value.map((one) => pythonValue(one, inner))
    : Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${pythonValue(one, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  const line = `${open}${entries.join(", ")}${close}`;
  return line.length < 90 && !line.includes("\n")
    ? line
    : `${open}\n${entries.map((one) => `${inner}${one},`).join("\n")}\n${indent}${close}`;
}
