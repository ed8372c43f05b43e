// What comes of the user's own files: rows, labels and one example, or what is wrong with them.
(() => {
  const { el, fmt } = studio;
  const SPLITS = [["train", "training"], ["validation", "validation"], ["test", "test"]];

  const placeholders = (columns) => el("p", { class: "ps-holes" }, "Placeholders: ",
    ...columns.flatMap((name) => [el("code", {}, `{${name}}`), " "]));

  function found(data) {
    const counts = SPLITS.map(([split, title]) => `${fmt.int(data.rows[split])} ${title}`).join(", ");
    const skipped = Object.entries(data.skipped).map(([why, count]) => `${fmt.int(count)} with ${why}`).join(", ");
    return [
      el("p", {}, el("b", {}, "Rows: "), `${counts}.`, skipped ? ` Left out: ${skipped}.` : "",
        ...data.notes.map((note) => ` ${note}`)),
      data.labels.length ? el("p", {}, el("b", {}, "Labels: "), data.labels.join(", ")) : null,
      el("div", { class: "ps-example", tabindex: "0", role: "group", "aria-label": "The first training row: prompt and answer" },
        data.prompt, el("u", {}, data.labels.length ? ` → ${data.answer}` : data.answer)),
    ];
  }

  studio.island("data", (root, { props, watch }) => {
    const draw = () => {
      const data = props.value;
      if (!data) return;
      const parts = data.hint ? [el("p", {}, data.hint)]
        : data.error ? [el("div", { class: "ps-problem", role: "alert" }, data.error)] : found(data);
      if (data.columns) parts.push(placeholders(data.columns));
      root.replaceChildren(el("div", { class: "ps-found", "aria-live": "polite" }, ...parts.filter(Boolean)));
    };
    watch("value", draw);
    draw();
  });
})();
