// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <fmt/format.h>

#include "app/shell_word.hpp"
#include "app/study/report.hpp"
#include "app/study/settings.hpp"

namespace syncbn::app::study {

std::string command_of(const Run& run) {
  std::string text = run.ranks > 1 ? fmt::format("mpirun -n {} ", run.ranks) : "";
  text += "syncbn train";
  for (const Setting& setting : settings_of(run)) {
    if (setting.value != setting.usual) {
      text += fmt::format(" --{} {}", setting.option, shell_word(setting.value));
    }
  }
  return text;
}

}  // namespace syncbn::app::study
