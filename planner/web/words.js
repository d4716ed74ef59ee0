/* Streamlit's own words in the language of the page: in its controls, menus and messages, never in what a user wrote. */
(said => {
  window.plannerWords?.disconnect();
  if (!Object.keys(said).length) return;
  const places = ['stFileUploader', 'InputInstructions', 'stMainMenuPopover', 'stMainMenuList', 'stDialog', 'stElementToolbar',
    'stTooltipContent', 'stSkipToContent', 'stDataFrameColumnMenu', 'stDataFrameColumnFormattingMenu', 'stToolbar', 'stStatusWidget']
    .map(id => `[data-testid="${id}"]`).join() + ', [role="dialog"], [role="menu"], [role="listbox"]';
  const named = 'button, input, textarea, nav, section, [role]';
  const blanks = Object.entries(said).filter(([words]) => words.includes('{0}')).map(([words, other]) =>
    [new RegExp('^' + words.split('{0}').map(part => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('(.+)') + '$'), other]);
  const other = words => {
    const own = words.trim();
    if (!own || own in said) return said[own];
    for (const [form, text] of blanks) { const found = own.match(form); if (found) return text.replace('{0}', found[1]); }
  };
  const text = node => { const found = other(node.data); if (found && node.data !== found) node.data = found; };
  const names = element => {
    for (const name of ['aria-label', 'placeholder', 'title']) {
      const now = element.getAttribute(name), found = now && other(now);
      if (found && found !== now) element.setAttribute(name, found);
    }
  };
  const within = place => {
    const walk = document.createTreeWalker(place, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) text(walk.currentNode);
  };
  const look = node => {
    if (node.nodeType === Node.TEXT_NODE) { if (node.parentElement?.closest(places)) text(node); return; }
    if (node.nodeType !== Node.ELEMENT_NODE || node.namespaceURI !== 'http://www.w3.org/1999/xhtml') return;
    if (node.matches(named)) names(node);
    node.querySelectorAll(named).forEach(names);
    if (node.closest(places)) within(node); else node.querySelectorAll(places).forEach(within);
  };
  window.plannerWords = new MutationObserver(changes => {
    for (const change of changes)
      if (change.type === 'characterData') look(change.target);
      else if (change.type === 'attributes') { if (change.target.matches(named)) names(change.target); }
      else change.addedNodes.forEach(look);
  });
  const watched = {subtree: true, childList: true, characterData: true, attributes: true};
  window.plannerWords.observe(document.body, {...watched, attributeFilter: ['aria-label', 'placeholder', 'title']});
  look(document.body);
})(SAID);
