// The texts of this page's scripts, in the language of the browser.
import values from "./values.js";

function chosen() {
  const languages = Object.keys(values.texts);
  const tag = navigator.language.toLowerCase();
  const primary = (language) => language.toLowerCase().split("-")[0];
  return (
    languages.find((language) => language.toLowerCase() === tag) ??
    languages.find((language) => primary(language) === primary(tag)) ??
    "en"
  );
}

const texts = values.texts[chosen()];

// For screen readers and fonts: the page says which language it is in.
document.documentElement.lang = navigator.language;

export function text(key) {
  return texts[key].replace("{most}", values.most.toLocaleString(navigator.language));
}
