// What a person has set: kept in this browser, the API key in this tab alone.

const PLACE = "paddlemix-qwenvl";
const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "min_pixels", "max_pixels"];
const DEFAULTS = {
  system: "",
  api_key: "",
  language: "",
  theme: "",
  model: "",
  ...Object.fromEntries(NUMBERS.map((name) => [name, null])),
};

export const settings = { ...DEFAULTS, ...read(localStorage), ...read(sessionStorage) };

function read(storage) {
  try {
    return JSON.parse(storage.getItem(PLACE)) ?? {};
  } catch {
    return {};
  }
}

/** Changes settings and keeps them. */
export function change(changes) {
  Object.assign(settings, changes);
  const { api_key, ...rest } = settings;
  localStorage.setItem(PLACE, JSON.stringify(rest));
  sessionStorage.setItem(PLACE, JSON.stringify({ api_key }));
}

/** Shows the settings in a form of fields of their names, and takes what is typed there, a key when it is whole.
 * `changed(name)` is told. */
export function bindForm(form, changed) {
  for (const field of form.elements) {
    if (!field.name) continue;
    field.value = settings[field.name] ?? "";
    field.addEventListener(field.type === "password" ? "change" : "input", () => {
      if (!field.validity.valid) return;
      change({
        [field.name]: NUMBERS.includes(field.name) ? (field.value === "" ? null : Number(field.value)) : field.value,
      });
      changed(field.name);
    });
  }
}

/** Light or dark, as chosen or as the system has it. */
export function showTheme() {
  document.documentElement.dataset.theme = settings.theme;
}

const systemTheme = () => (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
export const isDark = () => (settings.theme || systemTheme()) === "dark";

export function switchTheme() {
  const wanted = isDark() ? "light" : "dark";
  change({ theme: wanted === systemTheme() ? "" : wanted });
  showTheme();
}
