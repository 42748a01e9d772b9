# How llama-server is compiled on a user's machine: quickly. CMake reads this after Ollama's project() line, by
# CMAKE_PROJECT_ollama-llama-server_INCLUDE, and runs it when every target is there.

# Compilers spend most of their time here on headers that the sources share (the standard library, a JSON library,
# the graph of a model), so several sources become one unit. Each target's sources get along in this version.
function(sluice_compile_quickly)
  foreach(target IN ITEMS llama mtmd llama-common server-context llama-server-impl)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 16)
  endforeach()
  # The matrix products are in ggml; everything else is -O1, which CMAKE_CXX_FLAGS_RELEASE says.
  foreach(target IN ITEMS ggml-base ggml-cpu)
    target_compile_options(${target} PRIVATE -O3)
  endforeach()
  # Two loops over the vocabulary for each token.
  set_source_files_properties(${llama_cpp_SOURCE_DIR}/src/llama-sampler.cpp ${llama_cpp_SOURCE_DIR}/src/llama-grammar.cpp
                              TARGET_DIRECTORY llama PROPERTIES COMPILE_OPTIONS -O2)
endfunction()
cmake_language(DEFER CALL sluice_compile_quickly)
