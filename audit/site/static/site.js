// The reader's own time, beside the installation's: all else works without a script.
const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
for (const time of document.querySelectorAll("time[datetime][title]")) {
  if (zone && zone !== "UTC" && !time.title.includes(zone)) {
    const local = new Date(time.dateTime).toLocaleString("sv-SE");
    time.title += `\n${local} ${zone}`;
  }
}

// An open menu of Datasette's closes by a click beside it.
document.body.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details[open].actions-menu-links, details[open].nav-menu")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// Fields that Datasette's pages leave without a name, for those who hear a page.
const names = {
  ".CodeMirror textarea": "SQL",
  'select[name^="_filter_column"]': "Column",
  'select[name^="_filter_op"]': "Comparison",
  'input[name^="_filter_value"]': "Value",
  'select[name="_sort"]': "Sort by",
};
addEventListener("load", () => {
  for (const [fields, name] of Object.entries(names)) {
    for (const field of document.querySelectorAll(fields)) field.setAttribute("aria-label", name);
  }
});
