// Light, dark, or as the system has it. Not a module: it runs before the page is first drawn, so nothing flashes.
{
  const NEXT = { "": "light", light: "dark", dark: "" };
  const NAMES = { "": "auto", light: "light", dark: "dark" };
  const root = document.documentElement;
  root.dataset.theme = localStorage.getItem("chatcli.theme") ?? "";
  addEventListener("DOMContentLoaded", () => {
    const toggle = document.getElementById("theme");
    const label = () => (toggle.textContent = `Theme: ${NAMES[root.dataset.theme] ?? "?"}`);
    toggle.addEventListener("click", () => {
      root.dataset.theme = NEXT[root.dataset.theme] ?? "";
      localStorage.setItem("chatcli.theme", root.dataset.theme);
      label();
    });
    label();
  });
}
