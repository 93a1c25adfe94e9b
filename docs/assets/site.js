// What scrolls sideways can be reached and scrolled by keyboard; the theme makes these at run time.
document$.subscribe(() => {
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap, pre > code")) wide.tabIndex = 0;
});
