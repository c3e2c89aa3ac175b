"""Fields that real chat and embeddings APIs know, by provider: none of them may be taken for one of Tailrace's."""

_BY_API = {
    "OpenAI chat": """
        model messages stream stream_options temperature top_p n stop seed user store metadata tools tool_choice
        functions function_call parallel_tool_calls response_format logprobs top_logprobs logit_bias presence_penalty
        frequency_penalty max_tokens max_completion_tokens reasoning_effort verbosity modalities audio prediction
        service_tier safety_identifier prompt_cache_key prompt_cache_retention web_search_options""",
    "OpenAI responses, embeddings, completions": """
        input instructions max_output_tokens previous_response_id reasoning text truncation background include
        conversation prompt max_tool_calls context_management encoding_format dimensions best_of echo suffix""",
    "vLLM": """
        top_k min_p repetition_penalty length_penalty use_beam_search early_stopping min_tokens stop_token_ids
        include_stop_str_in_output ignore_eos skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens
        prompt_logprobs allowed_token_ids bad_words logits_processors add_generation_prompt continue_final_message
        add_special_tokens documents chat_template chat_template_kwargs mm_processor_kwargs media_io_kwargs guided_json
        guided_regex guided_choice guided_grammar guided_decoding_backend guided_whitespace_pattern structured_outputs
        structural_tag priority request_id return_tokens_as_token_ids return_token_ids cache_salt kv_transfer_params
        vllm_xargs thinking_token_budget include_reasoning""",
    "SGLang": """
        separate_reasoning stream_reasoning regex ebnf session_params lora_path rid return_hidden_states
        bootstrap_host bootstrap_port bootstrap_room data_parallel_rank no_stop_trim stop_regex
        custom_logit_processor custom_params min_new_tokens""",
    "llama.cpp": """
        mirostat mirostat_tau mirostat_eta dynatemp_range dynatemp_exponent dry_multiplier dry_base dry_allowed_length
        dry_penalty_last_n dry_sequence_breakers xtc_probability xtc_threshold n_predict n_keep n_discard n_indent
        n_probs min_keep typical_p repeat_penalty repeat_last_n penalize_nl grammar json_schema id_slot cache_prompt
        return_tokens samplers timings_per_token post_sampling_probs lora t_max_predict_ms reasoning_format
        thinking_forced_open parse_tool_calls""",
    "Ollama, text-generation-webui, TabbyAPI": """
        options format keep_alive think raw template images context num_ctx num_predict num_keep top_a tfs
        penalty_alpha smoothing_factor smoothing_curve temperature_last sampler_priority guidance_scale
        negative_prompt ban_eos_token mode character preset instruction_template truncation_length
        auto_max_new_tokens repetition_penalty_range no_repeat_ngram_size""",
    "OpenRouter": """
        provider transforms route models plugins fallbacks usage debug image_config session_id trace""",
    "Gemini, Anthropic, Mistral, Groq": """
        thinking extra_body safety_settings generation_config cached_content google safe_prompt prompt_mode
        random_seed prefix betas container mcp_servers output_config inference_geo system citation_options
        exclude_domains include_domains country compound_custom disable_tool_validation search_settings""",
    "DashScope, Zhipu, Moonshot, MiniMax": """
        enable_thinking thinking_budget enable_search search_options incremental_output result_format
        translation_options vl_high_resolution_images enable_code_interpreter do_sample tool_stream
        sensitive_word_check user_id web_search mask_sensitive_info reasoning_split""",
    "Perplexity, xAI, Cerebras": """
        search_parameters deferred search_mode search_domain_filter search_recency_filter search_after_date_filter
        search_before_date_filter last_updated_after_filter last_updated_before_filter return_images
        return_related_questions disable_search enable_search_classifier language_preference response_length
        disable_reasoning clear_thinking""",
    "Fireworks, Together, Azure, NVIDIA": """
        context_length_exceeded_behavior prompt_truncate_len perf_metrics_in_response prompt_cache_isolation_key
        speculation raw_output mirostat_lr mirostat_target draft_model safety_model compliance
        hallucination_settings data_sources enhancements nvext""",
    "LiteLLM's proxy": """
        api_version custom_llm_provider mock_response num_retries max_retries request_timeout stream_timeout timeout
        tags cache caching no-log guardrails user_config litellm_metadata prompt_id prompt_variables
        context_window_fallback_dict cooldown_time enable_json_schema_validation allowed_openai_params drop_params""",
    "Embeddings elsewhere": """
        input_type embedding_type embedding_types truncate task late_chunking normalized normalize output_dimension
        output_dtype truncate_dim modality return_multivector matryoshka_dim""",
    "Chat frontends and agents": """
        chat_id agent_id conversation_id assistant_id thread_id workspace_id project_id interaction_id parent_id
        channel lang language locale line lines plan plane end_user callback callback_url callbacks webhook_url
        on_token on_chunk on_finish on_error features files""",
}

KNOWN_FIELDS = tuple(dict.fromkeys(name for names in _BY_API.values() for name in names.split()))
