# How llama-server is compiled on a user's machine: quickly. CMake reads this after Ollama's project() line, by
# CMAKE_PROJECT_ollama-llama-server_INCLUDE, and runs it when every target is there.

# Compilers spend most of their time here on headers that the sources share (the standard library, a JSON library,
# the graph of a model), so several sources become one unit.
function(sluice_compile_quickly)
  foreach(target IN ITEMS llama mtmd llama-common server-context llama-server-impl)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  endforeach()
  # The matrix products are in ggml. Everything else is -O1, as CMAKE_CXX_FLAGS_RELEASE says, but for two sources that
  # loop over the vocabulary for each token.
  foreach(target IN ITEMS ggml-base ggml-cpu)
    target_compile_options(${target} PRIVATE -O3)
  endforeach()
  sluice_sources(llama COMPILE_OPTIONS -O2 src/llama-sampler.cpp src/llama-grammar.cpp)
  # These define what another source of their target defines too, or refuse to see its headers.
  sluice_sources(llama SKIP_UNITY_BUILD_INCLUSION ON src/llama-kv-cache-dsv4.cpp src/models/gemma4.cpp)
  sluice_sources(llama-common SKIP_UNITY_BUILD_INCLUSION ON common/chat.cpp)
  sluice_sources(mtmd SKIP_UNITY_BUILD_INCLUSION ON tools/mtmd/mtmd-helper.cpp tools/mtmd/mtmd-helper-gen.cpp)
endfunction()

function(sluice_sources target property value)
  list(TRANSFORM ARGN PREPEND ${llama_cpp_SOURCE_DIR}/)
  set_source_files_properties(${ARGN} TARGET_DIRECTORY ${target} PROPERTIES ${property} ${value})
endfunction()

cmake_language(DEFER CALL sluice_compile_quickly)
