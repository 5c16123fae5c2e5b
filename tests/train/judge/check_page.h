// Pages as a parser sees them.
#pragma once
#include <filesystem>
#include <string>

#include "core/files.h"
#include "tests/support/subprocess.h"
#include "tests/support/temporary_folder.h"

namespace unfurl::tests {

/// What is wrong with a page, by Python's html.parser: elements that are not closed, or closed twice, ids that come
/// twice, and addresses of anything outside the page. "" where nothing is.
inline std::string page_faults(const std::filesystem::path& page) {
  constexpr const char* kScript = R"(import sys
from html.parser import HTMLParser
VOID = {"meta", "br", "img", "input", "hr", "link"}
class Page(HTMLParser):
    open, ids, faults = [], set(), []
    def handle_starttag(self, tag, attrs):
        if tag not in VOID: self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href") and not (value or "").startswith(("data:image/", "#")):
                self.faults.append(f"{tag} needs {value}")
            if name == "id":
                if value in self.ids: self.faults.append(f"id {value} twice")
                self.ids.add(value)
    def handle_startendtag(self, tag, attrs): pass
    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag: self.faults.append(f"</{tag}> at line {self.getpos()[0]}")
page = Page()
page.feed(open(sys.argv[1], encoding="utf-8").read())
page.close()
print("; ".join((page.faults + ["not closed: " + tag for tag in page.open])[:5]), end="")
)";
  const TemporaryFolder folder;
  write_file(folder / "check.py", kScript);
  const Finished found = run_process({"/usr/bin/env", "python3", (folder / "check.py").string(), page.string()});
  return found.code == 0 ? found.out : "the check failed: " + found.error;
}

}  // namespace unfurl::tests
