// Equations as MathML, which every browser draws with its own fonts: nothing is loaded from elsewhere.
document.addEventListener("DOMContentLoaded", () => {
  for (const node of document.querySelectorAll(".arithmatex")) {
    const displayMode = node.tagName === "DIV";
    const source = node.textContent.trim().slice(2, -2);
    katex.render(source, node, { displayMode, output: "mathml", throwOnError: false });
  }
});
