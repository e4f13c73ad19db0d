# Downloads Highway and nlohmann_json, and builds them in. FETCHCONTENT_SOURCE_DIR_HIGHWAY and
# FETCHCONTENT_SOURCE_DIR_NLOHMANN_JSON name directories that have their sources already.

include(FetchContent)
FetchContent_Declare(highway
  URL https://github.com/google/highway/archive/refs/tags/1.2.0.tar.gz
  URL_HASH SHA256=7e0be78b8318e8bdbf6fa545d2ecb4c90f947df03f7aadc42c1967f019e63343
  SYSTEM)
FetchContent_Declare(nlohmann_json
  URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  URL_HASH SHA256=d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d
  SYSTEM)
foreach(extra CONTRIB EXAMPLES INSTALL TESTS)
  set(HWY_ENABLE_${extra} OFF CACHE INTERNAL "")
endforeach()
set(HWY_FORCE_STATIC_LIBS ON CACHE INTERNAL "")
FetchContent_MakeAvailable(highway nlohmann_json)
add_library(hwy::hwy ALIAS hwy)
