// Light or dark as the reader's system is.
const dark = window.matchMedia("(prefers-color-scheme: dark)"), theme = () => document.body.classList.toggle("dark", dark.matches);
dark.addEventListener("change", theme);
theme();
