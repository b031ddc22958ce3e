# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for nvfs(8): nvfs itself knows what fits.
_nvfs() {
	local line=${COMP_LINE:0:COMP_POINT} word breaks='' cut='' c
	local cur=${line##*[[:space:]]}
	COMPREPLY=()
	# bash replaces only what stands behind the last of these in the word.
	for c in : @ =; do
		[[ $COMP_WORDBREAKS == *"$c"* ]] && breaks+=$c
	done
	[ -n "$breaks" ] && cut=${cur%"${cur##*[$breaks]}"}
	while IFS= read -r word; do
		if [ "$word" = "?files" ]; then
			compopt -o default 2>/dev/null
			continue
		fi
		[[ $word == *[:@=/] ]] && compopt -o nospace 2>/dev/null
		COMPREPLY+=("${word#"$cut"}")
	done < <("${COMP_WORDS[0]}" completion words "$line" 2>/dev/null)
}
complete -F _nvfs nvfs
